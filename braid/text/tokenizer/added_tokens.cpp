#include "braid/text/tokenizer/added_tokens.h"

#include <algorithm>

#include "braid/text/tokenizer/unicode.h"

namespace braid {
namespace {

bool ends_in_word(std::string_view text) {
  if (text.empty()) return false;
  const CodePoint c = last_code_point(text);
  return c.valid && is_word(c.value);
}

bool begins_with_word(std::string_view text) {
  if (text.empty()) return false;
  const CodePoint c = first_code_point(text);
  return c.valid && is_word(c.value);
}

}  // namespace

void AddedTokenFinder::add(std::string_view spelling, const AddedToken& token) {
  if (spelling.empty()) return;
  size_t node = 0;
  for (const char c : spelling) {
    const auto byte = static_cast<uint8_t>(c);
    auto& children = nodes_[node].children;
    const auto child = std::find_if(children.begin(), children.end(),
                                    [&](const auto& edge) { return edge.first == byte; });
    if (child != children.end()) {
      node = static_cast<size_t>(child->second);
      continue;
    }
    const size_t fresh = nodes_.size();
    children.emplace_back(byte, static_cast<int32_t>(fresh));
    nodes_.emplace_back();
    node = fresh;
  }
  if (nodes_[node].token >= 0) return;  // of equal spellings the first
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  starts_[static_cast<uint8_t>(spelling[0])] = true;
}

AddedTokenFinder::Match AddedTokenFinder::longest_at(std::string_view text, size_t at) const {
  Match best;
  size_t node = 0;
  for (; at < text.size(); ++at) {
    const auto& children = nodes_[node].children;
    const auto byte = static_cast<uint8_t>(text[at]);
    const auto child = std::find_if(children.begin(), children.end(),
                                    [&](const auto& edge) { return edge.first == byte; });
    if (child == children.end()) break;
    node = static_cast<size_t>(child->second);
    if (nodes_[node].token >= 0) best = {at + 1, nodes_[node].token};
  }
  return best;
}

void AddedTokenFinder::split(std::string_view text, bool allow_special,
                             std::vector<Section>& sections) const {
  size_t taken = 0;  // up to here the text belongs to a section
  for (size_t at = 0; at < text.size() && !tokens_.empty();) {
    if (!starts_[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    const Match m = longest_at(text, at);
    if (m.token < 0) {
      ++at;
      continue;
    }
    Range r{at, m.end};
    at = m.end;
    const AddedToken& token = tokens_[static_cast<size_t>(m.token)];
    if (token.special && !allow_special) continue;
    if (token.single_word &&
        (ends_in_word(text.substr(0, r.begin)) || begins_with_word(text.substr(r.end)))) {
      continue;
    }
    while (token.lstrip && r.begin > taken) {
      const CodePoint c = last_code_point(text.substr(0, r.begin));
      if (!is_white_space(c.value)) break;
      r.begin = std::max(taken, r.begin - static_cast<size_t>(c.bytes));
    }
    while (token.rstrip && r.end < text.size()) {
      const CodePoint c = first_code_point(text.substr(r.end));
      if (!is_white_space(c.value)) break;
      r.end += static_cast<size_t>(c.bytes);
    }
    if (r.begin > taken) sections.push_back({{taken, r.begin}, -1});
    sections.push_back({r, token.id});
    taken = r.end;
  }
  if (taken < text.size()) sections.push_back({{taken, text.size()}, -1});
}

}  // namespace braid
