// tokenizer.json, with what tokenizer_config.json adds to it.

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/bpe.h"
#include "braid/text/tokenizer/component.h"
#include "braid/text/tokenizer/pipeline.h"
#include "braid/text/tokenizer/tokenizer_config.h"
#include "braid/text/tokenizer/unigram.h"
#include "braid/text/tokenizer/word_models.h"

namespace braid {
namespace {

constexpr JsonLimits kLimits{size_t{128} << 20, 64};

const Json& member_or_null(const Json& json, std::string_view key) {
  static const Json null;
  const Json* m = json.find(key);
  return m == nullptr ? null : *m;
}

Vocabulary parse_vocab(const Json& json) {
  Vocabulary vocabulary;
  for (const Json::Member& m : json.members()) vocabulary.add(m.value.as_int(), m.key);
  return vocabulary;
}

// "a b" or ["a", "b"].
std::pair<std::string_view, std::string_view> halves(const Json& merge) {
  if (merge.is_array() && merge.size() == 2) {
    return {merge.elements()[0].as_string(), merge.elements()[1].as_string()};
  }
  if (merge.is_string()) {
    const std::string_view text = merge.as_string();
    const size_t space = text.find(' ');
    if (space != text.npos && text.find(' ', space + 1) == text.npos) {
      return {text.substr(0, space), text.substr(space + 1)};
    }
  }
  throw Error(ErrorKind::kBadInput, format("merge {} is not two tokens", printable(merge.dump())));
}

std::vector<BpeMerge> parse_merges(const Json& json, const Vocabulary& vocabulary,
                                   const std::string& continuing_prefix) {
  std::vector<BpeMerge> merges;
  merges.reserve(json.size());
  std::string joined;
  const auto id_of = [&](std::string_view token, const Json& merge) {
    const int32_t id = vocabulary.find(token);
    if (id >= 0) return id;
    throw Error(ErrorKind::kBadInput, format("merge {} needs the token '{}', which is not there",
                                             printable(merge.dump()), printable(token)));
  };
  for (const Json& merge : json.elements()) {
    const auto [left, right] = halves(merge);
    joined = left;
    joined += right.starts_with(continuing_prefix) ? right.substr(continuing_prefix.size()) : right;
    merges.push_back({id_of(left, merge), id_of(right, merge), id_of(joined, merge),
                      static_cast<int32_t>(merges.size())});
  }
  return merges;
}

std::unique_ptr<TokenModel> parse_bpe(const Json& json, bool raw_bytes) {
  BpeOptions o;
  if (const Json& unk = member_or_null(json, "unk_token"); !unk.is_null()) {
    o.unk_token = unk.as_string();
  }
  o.continuing_subword_prefix = string_or(json, "continuing_subword_prefix", "");
  o.end_of_word_suffix = string_or(json, "end_of_word_suffix", "");
  o.fuse_unk = bool_or(json, "fuse_unk", false);
  o.byte_fallback = bool_or(json, "byte_fallback", false);
  o.ignore_merges = bool_or(json, "ignore_merges", false);
  o.raw_bytes = raw_bytes;
  o.kind = raw_bytes ? "byte-level BPE" : "BPE";
  Vocabulary vocabulary = parse_vocab(json.at("vocab"));
  const std::vector<BpeMerge> merges =
      parse_merges(json.at("merges"), vocabulary, o.continuing_subword_prefix);
  return std::make_unique<Bpe>(std::move(vocabulary), merges, std::move(o));
}

std::unique_ptr<TokenModel> parse_unigram(const Json& json, const std::vector<AddedToken>& added) {
  Vocabulary vocabulary;
  std::vector<double> scores;
  for (const Json& pair : json.at("vocab").elements()) {
    const std::vector<Json>& both = pair.elements();
    if (both.size() != 2) {
      throw Error(ErrorKind::kBadInput,
                  format("Unigram token {} is not a string and a score", printable(pair.dump())));
    }
    vocabulary.add(std::ssize(scores), both[0].as_string());
    scores.push_back(both[1].as_real());
  }
  UnigramOptions o;
  const int64_t unk = int_or(json, "unk_id", -1);
  if (scores.empty() || unk >= std::ssize(scores)) {
    throw Error(ErrorKind::kBadInput,
                format("Unigram: unk_id {} in a vocabulary of {}", unk, scores.size()));
  }
  o.unk = static_cast<int32_t>(std::max<int64_t>(unk, -1));
  o.byte_fallback = bool_or(json, "byte_fallback", false);
  for (const AddedToken& t : added) {
    const int32_t id = vocabulary.find(t.content);
    if (t.special && id >= 0) o.apart.push_back(id);
  }
  return std::make_unique<Unigram>(std::move(vocabulary), std::move(scores), std::move(o));
}

// Files of early versions have no "type".
std::string model_type(const Json& json) {
  if (json.find("type") != nullptr) return component_type(json);
  if (json.find("merges") != nullptr) return "BPE";
  if (json.at("vocab").is_array()) return "Unigram";
  return json.find("max_input_chars_per_word") != nullptr ? "WordPiece" : "WordLevel";
}

std::unique_ptr<TokenModel> parse_model(const Json& json, bool raw_bytes,
                                        const std::vector<AddedToken>& added) {
  const std::string type = model_type(json);
  if (type == "BPE") return parse_bpe(json, raw_bytes);
  if (type == "Unigram") return parse_unigram(json, added);
  if (type == "WordLevel") {
    return std::make_unique<WordLevel>(parse_vocab(json.at("vocab")),
                                       string_or(json, "unk_token", "<unk>"));
  }
  if (type == "WordPiece") {
    WordPieceOptions o;
    o.unk_token = string_or(json, "unk_token", o.unk_token);
    o.continuing_subword_prefix =
        string_or(json, "continuing_subword_prefix", o.continuing_subword_prefix);
    o.max_input_chars_per_word =
        int_or(json, "max_input_chars_per_word", o.max_input_chars_per_word);
    return std::make_unique<WordPiece>(parse_vocab(json.at("vocab")), o);
  }
  throw Error(ErrorKind::kBadInput, format("model '{}' is not known", printable(type)));
}

AddedToken parse_added(const Json& json) {
  AddedToken t;
  const int64_t id = json.at("id").as_int();
  t.content = json.at("content").as_string();
  if (id < 0 || id > Vocabulary::kMaxId) {
    throw Error(ErrorKind::kBadInput, format("added token '{}' has the id {}; ids go from 0 to {}",
                                             printable(t.content), id, Vocabulary::kMaxId));
  }
  t.id = static_cast<int32_t>(id);
  t.special = bool_or(json, "special", false);
  t.single_word = bool_or(json, "single_word", false);
  t.lstrip = bool_or(json, "lstrip", false);
  t.rstrip = bool_or(json, "rstrip", false);
  t.normalized = bool_or(json, "normalized", !t.special);
  return t;
}

template <typename Parse>
auto with_context(const char* part, const Parse& parse) {
  try {
    return parse();
  } catch (Error& e) {
    throw e.add_context(part);
  }
}

}  // namespace

std::shared_ptr<const Tokenizer> parse_tokenizer_json(std::string_view text,
                                                      std::string_view config) {
  const Json json = Json::parse(text, kLimits);
  PipelineParts parts;
  if (const Json& added = member_or_null(json, "added_tokens"); !added.is_null()) {
    for (const Json& token : added.elements()) {
      AddedToken t = parse_added(token);
      if (!t.content.empty()) parts.added.push_back(std::move(t));
    }
  }
  parts.normalizers = with_context(
      "normalizer", [&] { return parse_normalizers(member_or_null(json, "normalizer")); });
  parts.pretokenizers = with_context(
      "pre_tokenizer", [&] { return parse_pretokenizers(member_or_null(json, "pre_tokenizer")); });
  const Json& model = json.at("model");
  // Bytes that nothing looks at between their spelling and the vocabulary need not be spelled.
  const bool raw_bytes = with_context("model", [&] {
    return model_type(model) == "BPE" && !parts.pretokenizers.empty() &&
           parts.pretokenizers.back()->maps_bytes();
  });
  if (raw_bytes) parts.pretokenizers.pop_back();
  parts.model = with_context("model", [&] { return parse_model(model, raw_bytes, parts.added); });
  parts.templates = parse_postprocessor(member_or_null(json, "post_processor"));
  parts.decoder =
      with_context("decoder", [&] { return parse_decoder(member_or_null(json, "decoder")); });
  return finish_with_config(std::move(parts), config);
}

}  // namespace braid
