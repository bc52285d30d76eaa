#include "braid/text/tokenizer/pipeline.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

constexpr size_t kLongText = size_t{4} << 20;

}  // namespace

struct PipelineTokenizer::Scratch {
  Regex::Scratch regex;
  ModelScratch model;
  Pieces pieces;
  std::string normal;
  std::vector<AddedTokenFinder::Section> sections, inner;
};

PipelineTokenizer::PipelineTokenizer(PipelineParts parts) : parts_(std::move(parts)) {
  const Vocabulary& vocabulary = parts_.model->vocabulary();
  Regex::Scratch regex;
  for (AddedToken& token : parts_.added) {
    const int32_t known = vocabulary.find(token.content);
    // The string is in the vocabulary under another id: that one counts, as in the reference.
    if (known >= 0) token.id = known;
    if (known < 0 && vocabulary.has(token.id)) {
      throw Error(ErrorKind::kBadInput,
                  format("added token '{}' has the id {}, which is '{}' in the vocabulary",
                         printable(token.content), token.id, printable(vocabulary.at(token.id))));
    }
    if (known < 0 && added_.find(token.content) < 0) added_.add(token.id, token.content);
    if (known < 0) token.id = added_.find(token.content);
    if (static_cast<size_t>(token.id) >= special_.size()) {
      special_.resize(static_cast<size_t>(token.id) + 1);
    }
    special_[static_cast<size_t>(token.id)] = token.special;
    std::string spelling = token.content;
    if (token.normalized) {
      for (const auto& n : parts_.normalizers) n->apply(spelling, regex);
    }
    (token.normalized ? normalized_added_ : raw_added_).add(spelling, token);
  }
  vocab_size_ = std::max(vocabulary.size(), added_.size());
}

PipelineTokenizer::~PipelineTokenizer() = default;

std::unique_ptr<PipelineTokenizer::Scratch> PipelineTokenizer::take_scratch() const {
  {
    const std::lock_guard lock(mutex_);
    if (!idle_.empty()) {
      std::unique_ptr<Scratch> scratch = std::move(idle_.back());
      idle_.pop_back();
      return scratch;
    }
  }
  return std::make_unique<Scratch>();
}

std::vector<int32_t> PipelineTokenizer::encode(std::string_view text,
                                               const EncodeOptions& options) const {
  std::unique_ptr<Scratch> scratch = take_scratch();
  std::vector<int32_t> ids;
  scratch->sections.clear();
  raw_added_.split(text, options.allow_special, scratch->sections);
  for (const AddedTokenFinder::Section& s : scratch->sections) {
    if (s.id >= 0) {
      ids.push_back(s.id);
    } else {
      encode_plain(text.substr(s.range.begin, s.range.size()), s.range.begin == 0,
                   options.allow_special, *scratch, ids);
    }
  }
  if (options.add_special_tokens) {
    for (const IdTemplate& form : parts_.templates) apply_template(form, ids);
  }
  // One that a long text has grown is dropped, as after an error, not given back.
  if (text.size() > kLongText) return ids;
  const std::lock_guard lock(mutex_);
  idle_.push_back(std::move(scratch));
  return ids;
}

void PipelineTokenizer::encode_plain(std::string_view text, bool at_start, bool allow_special,
                                     Scratch& scratch, std::vector<int32_t>& ids) const {
  if (!parts_.normalizers.empty()) {
    scratch.normal = text;
    for (const auto& n : parts_.normalizers) n->apply(scratch.normal, scratch.regex);
    text = scratch.normal;
  }
  if (normalized_added_.empty()) return encode_pieces(text, at_start, scratch, ids);
  scratch.inner.clear();
  normalized_added_.split(text, allow_special, scratch.inner);
  for (const AddedTokenFinder::Section& s : scratch.inner) {
    if (s.id >= 0) {
      ids.push_back(s.id);
    } else {
      encode_pieces(text.substr(s.range.begin, s.range.size()), at_start && s.range.begin == 0,
                    scratch, ids);
    }
  }
}

void PipelineTokenizer::encode_pieces(std::string_view text, bool at_start, Scratch& scratch,
                                      std::vector<int32_t>& ids) const {
  if (text.empty()) return;
  Pieces& pieces = scratch.pieces;
  pieces.text = text;
  pieces.ranges.assign(1, {0, text.size()});
  pieces.at_start = at_start;
  for (const auto& p : parts_.pretokenizers) p->apply(pieces, scratch.regex);
  for (const Range& r : pieces.ranges) {
    parts_.model->encode(std::string_view(pieces.text).substr(r.begin, r.size()), scratch.model,
                         ids);
  }
}

std::optional<int32_t> PipelineTokenizer::token_to_id(std::string_view token) const {
  int32_t id = added_.find(token);
  if (id < 0) id = parts_.model->vocabulary().find(token);
  return id < 0 ? std::nullopt : std::optional<int32_t>(id);
}

std::optional<std::string> PipelineTokenizer::id_to_token(int32_t id) const {
  const Vocabulary& vocabulary = parts_.model->vocabulary();
  if (vocabulary.has(id)) return std::string(vocabulary.at(id));
  if (added_.has(id)) return std::string(added_.at(id));
  return std::nullopt;
}

bool PipelineTokenizer::is_special(int32_t id) const {
  return id >= 0 && static_cast<size_t>(id) < special_.size() && special_[static_cast<size_t>(id)];
}

std::vector<int32_t> PipelineTokenizer::special_ids() const {
  std::vector<int32_t> ids;
  for (size_t id = 0; id < special_.size(); ++id) {
    if (special_[id]) ids.push_back(static_cast<int32_t>(id));
  }
  return ids;
}

std::string PipelineTokenizer::describe() const {
  return format("{}, {} tokens", parts_.model->name(),
                parts_.model->vocabulary().count() + added_.count());
}

std::unique_ptr<DecodeStream> PipelineTokenizer::new_decode_stream(bool lossy) const {
  return start_decoder(parts_.decoder, lossy);
}

}  // namespace braid
