#include "braid/text/tokenizer/unigram.h"

#include <algorithm>
#include <limits>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/text_hash.h"
#include "braid/text/tokenizer/utf8.h"

namespace braid {
namespace {

constexpr double kUnknownPenalty = 10;  // below the worst token

size_t slot_of(uint64_t key) { return mix_bits(key * 0xD6E8FEB86659FD93ULL); }

}  // namespace

Unigram::Unigram(Vocabulary vocabulary, std::vector<double> scores, UnigramOptions options)
    : vocabulary_(std::move(vocabulary)), scores_(std::move(scores)), options_(std::move(options)) {
  std::sort(options_.apart.begin(), options_.apart.end());
  BRAID_CHECK(scores_.size() == static_cast<size_t>(vocabulary_.size()));
  unk_score_ = *std::min_element(scores_.begin(), scores_.end()) - kUnknownPenalty;
  if (options_.byte_fallback) byte_tokens_ = byte_token_ids(vocabulary_);
  build_trie();
}

int32_t Unigram::child(int32_t node, uint8_t byte) const {
  const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
  const size_t mask = edges_.size() - 1;
  for (size_t slot = slot_of(key) & mask; edges_[slot].to >= 0; slot = (slot + 1) & mask) {
    if (edges_[slot].key == key) return edges_[slot].to;
  }
  return -1;
}

int32_t Unigram::add_child(int32_t node, uint8_t byte) {
  if (const int32_t there = child(node, byte); there >= 0) return there;
  if (ends_.size() * 2 > edges_.size()) {
    std::vector<Edge> old(edges_.size() * 2);
    old.swap(edges_);
    for (const Edge& e : old) {
      if (e.to < 0) continue;
      size_t slot = slot_of(e.key) & (edges_.size() - 1);
      while (edges_[slot].to >= 0) slot = (slot + 1) & (edges_.size() - 1);
      edges_[slot] = e;
    }
  }
  const uint64_t key = static_cast<uint64_t>(node) << 8 | byte;
  size_t slot = slot_of(key) & (edges_.size() - 1);
  while (edges_[slot].to >= 0) slot = (slot + 1) & (edges_.size() - 1);
  edges_[slot] = {key, static_cast<int32_t>(ends_.size())};
  ends_.push_back(-1);
  return edges_[slot].to;
}

void Unigram::build_trie() {
  edges_.resize(1024);
  ends_.assign(1, -1);
  for (int32_t id = 0; id < vocabulary_.size(); ++id) {
    if (!vocabulary_.has(id) || is_apart(id)) continue;
    int32_t node = 0;
    for (const char c : vocabulary_.at(id)) node = add_child(node, static_cast<uint8_t>(c));
    ends_[static_cast<size_t>(node)] = id;  // of equal strings the last
  }
  ends_[0] = -1;
}

// steps[i] is how the best cut of the first i bytes ends.
void Unigram::cut(std::string_view piece, ModelScratch& scratch) const {
  auto& steps = scratch.steps;
  steps.assign(piece.size() + 1, {0, -1, -1});
  const auto offer = [&](size_t begin, size_t end, double score, int32_t id) {
    ModelScratch::Step& s = steps[end];
    if (s.begin < 0 || score > s.score) s = {score, static_cast<int32_t>(begin), id};
  };
  for (size_t begin = 0; begin < piece.size();) {
    const auto character = static_cast<size_t>(first_code_point(piece.substr(begin)).bytes);
    const double here = steps[begin].score;
    bool single = false;
    int32_t node = 0;
    for (size_t end = begin; end < piece.size();) {
      node = child(node, static_cast<uint8_t>(piece[end]));
      if (node < 0) break;
      ++end;
      const int32_t id = ends_[static_cast<size_t>(node)];
      if (id < 0) continue;
      offer(begin, end, here + scores_[static_cast<size_t>(id)], id);
      single = single || end - begin == character;
    }
    if (!single) {
      if (options_.unk < 0) {
        throw Error(ErrorKind::kBadInput,
                    format("'{}' has no token, and the vocabulary no unknown one",
                           printable(piece.substr(begin, character))));
      }
      offer(begin, begin + character, here + unk_score_, options_.unk);
    }
    begin += character;
  }
}

bool Unigram::is_apart(int32_t id) const {
  return std::binary_search(options_.apart.begin(), options_.apart.end(), id);
}

void Unigram::emit(std::string_view token, std::vector<int32_t>& ids) const {
  if (const int32_t id = vocabulary_.find(token); id >= 0 && !is_apart(id)) {
    ids.push_back(id);
    return;
  }
  const auto lacks = [&](char b) { return byte_tokens_[static_cast<uint8_t>(b)] < 0; };
  if (options_.byte_fallback && std::none_of(token.begin(), token.end(), lacks)) {
    for (const char b : token) ids.push_back(byte_tokens_[static_cast<uint8_t>(b)]);
    return;
  }
  ids.push_back(options_.unk);
}

void Unigram::encode(std::string_view piece, ModelScratch& scratch,
                     std::vector<int32_t>& ids) const {
  if (piece.empty()) return;
  if (piece.size() >= static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error(ErrorKind::kBadInput, format("a piece of {} bytes; at most 2^31", piece.size()));
  }
  const uint64_t hash = text_hash(piece);
  if (const auto known = scratch.cache.find(piece, hash); known.data() != nullptr) {
    ids.insert(ids.end(), known.begin(), known.end());
    return;
  }
  cut(piece, scratch);
  // Backwards: pieces without a token that follow each other are one.
  std::vector<std::string_view>& tokens = scratch.views;
  tokens.clear();
  size_t end = piece.size(), unknown_end = 0;
  const auto flush = [&](size_t begin) {
    if (unknown_end > 0) tokens.push_back(piece.substr(begin, unknown_end - begin));
    unknown_end = 0;
  };
  while (end > 0) {
    const ModelScratch::Step& s = scratch.steps[end];
    const auto begin = static_cast<size_t>(s.begin);
    if (s.id == options_.unk) {
      if (unknown_end == 0) unknown_end = end;
    } else {
      flush(end);
      tokens.push_back(piece.substr(begin, end - begin));
    }
    end = begin;
  }
  flush(0);
  scratch.ids.clear();
  for (size_t i = tokens.size(); i-- > 0;) emit(tokens[i], scratch.ids);
  ids.insert(ids.end(), scratch.ids.begin(), scratch.ids.end());
  scratch.cache.insert(piece, hash, scratch.ids);
}

}  // namespace braid
