#include "braid/text/tokenizer/gguf_vocabulary.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/byte_bpe.h"
#include "braid/text/tokenizer/known_regexes.h"
#include "braid/text/tokenizer/unicode.h"

namespace braid {
namespace {

// The first name of a row is the one that is written.
const std::vector<GgufCuts>& cuts_table() {
  static const std::vector<GgufCuts> table = {
      {{"gpt-2", "gpt2", "phi-2", "jais", "exaone4", "trillion", "granite-docling", "gigachat",
        "a.x-4.0", "mellum", "modern-bert", "jina-es", "jina-de", "jina-v2-es", "jina-v2-de"},
       {kGpt2Regex}},
      // Also of files that name none.
      {{"default", ""}, {kPunctuationRegex, kGpt2Regex, kDigitsRegex, kThreeDigitsRegex}},
      {{"falcon"}, {kFalconPunctuationRegex, kGpt2Regex, kThreeDigitsRegex}},
      {{"olmo", "mpt"}, {kGpt2Regex}, {.nfc = true}},
      {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "lfm2", "midm-2.0", "pixtral",
        "jina-v5-nano"},
       {kLlama3Regex},
       {.ignore_merges = true, .add_bos = true}},
      {{"smaug-bpe", "glm4", "chatglm-bpe", "dbrx"}, {kLlama3Regex}},
      {{"smollm", "refact", "starcoder", "command-r", "codeshell", "exaone", "minerva-7b",
        "mellum2"},
       {kDigitRegex, kGpt2Regex}},
      {{"qwen2", "deepseek-r1-qwen", "megrez"}, {kQwen2Regex}, {.nfc = true}},
      {{"stablelm2", "hunyuan", "solar-open", "grok-2", "kormo", "f2llmv2", "bailingmoe",
        "bailingmoe2", "llada-moe"},
       {kQwen2Regex}},
      {{"qwen35"}, {kQwen35Regex}, {.nfc = true}},
      {{"gpt-4o", "o200k", "minimax-m2", "llama4", "kanana2", "talkie"}, {kO200kRegex}},
      {{"tiny_aya", "cohere2moe"}, {kThousandsRegex, kO200kRegex}},
      {{"seed-coder"}, {kSeedCoderRegex}},
      {{"exaone-moe"}, {kExaoneMoeRegex}},
      {{"minicpm5"}, {kDigits3Regex, kMiniCpm5Regex}, {.ignore_merges = true}},
      {{"jais-2"}, {kJais2Regex}},
      {{"laguna"}, {kLinesRegex, kQwen2Regex}},
      {{"bloom", "gpt3-finnish", "poro-chat"}, {kBloomRegex}},
      {{"viking"}, {kBloomRegex, kDigitRegex}},
      {{"deepseek-coder"},
       {kLineBreakRegex, kSpacedLettersRegex, kSpacedPunctuationRegex, kAsianRegex, kDigitRegex}},
      {{"tekken"}, {kTekkenRegex}, {.ignore_merges = true, .add_bos = true}},
      {{"kimi-k2"}, {kKimiRegex}, {.ignore_merges = true}},
      {{"deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"},
       {kDigits3Regex, kEastAsianRegex, kDeepseek3Regex}},
      // The ranges of kEastAsianRegex as DeepSeek's own file spells them.
      {{"deepseek-v3"},
       {kDigits3Regex, "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+", kDeepseek3Regex}},
  };
  return table;
}

std::vector<BpeMerge> parse_merges(const GgufVocabulary& v, const Vocabulary& vocabulary) {
  std::vector<BpeMerge> merges;
  merges.reserve(v.merges.size());
  for (const std::string& merge : v.merges) {
    // Neither half is empty, so a space at either end belongs to a half.
    const size_t space = merge.find(' ', 1);
    const auto id_of = [&](std::string_view token) {
      const int32_t id = space == merge.npos ? -1 : vocabulary.find(token);
      if (id >= 0) return id;
      throw Error(ErrorKind::kBadInput,
                  format("merge '{}' needs the token '{}', which is not there", printable(merge),
                         printable(token)));
    };
    const std::string_view left = std::string_view(merge).substr(0, space);
    const std::string_view right =
        space == merge.npos ? "" : std::string_view(merge).substr(space + 1);
    merges.push_back({id_of(left), id_of(right), id_of(std::string(left) + std::string(right)),
                      static_cast<int32_t>(merges.size())});
  }
  return merges;
}

// SentencePiece's BPE: the pair whose merged token has the highest score goes first.
std::vector<int32_t> ranks_of_scores(const GgufVocabulary& v) {
  if (v.scores.empty()) throw Error(ErrorKind::kBadInput, "tokenizer.ggml.scores is missing");
  std::vector<size_t> order;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (std::isnan(v.scores[id])) {
      throw Error(ErrorKind::kBadInput, format("tokenizer.ggml.scores: entry {} is nan", id));
    }
    order.push_back(id);
  }
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return v.scores[a] > v.scores[b]; });
  std::vector<int32_t> ranks(v.tokens.size());
  int32_t rank = 0;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && v.scores[order[i]] != v.scores[order[i - 1]]) ++rank;
    const int32_t type = gguf_token_type(v, order[i]);
    // Control and byte tokens never result from text.
    ranks[order[i]] = type == kNormal || type == kUser || type == kUnused ? rank : -1;
  }
  return ranks;
}

}  // namespace

void check_gguf_vocabulary(const GgufVocabulary& v) {
  const auto same = [&](const char* key, size_t n) {
    if (n != 0 && n != v.tokens.size()) {
      throw Error(ErrorKind::kBadInput, format("tokenizer.ggml.{} has {} entries for {} tokens",
                                               key, n, v.tokens.size()));
    }
  };
  same("token_type", v.types.size());
  same("scores", v.scores.size());
  if (v.tokens.empty()) throw Error(ErrorKind::kBadInput, "tokenizer.ggml.tokens is empty");
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    if (valid_utf8_prefix(v.tokens[id]) == v.tokens[id].size()) continue;
    throw Error(ErrorKind::kBadInput,
                format("token {} is no UTF-8: '{}'", id, printable(v.tokens[id])));
  }
  const std::pair<const char*, std::optional<int32_t>> named[] = {
      {"bos", v.bos}, {"eos", v.eos}, {"unknown", v.unk}, {"padding", v.pad}};
  for (const auto& [name, id] : named) {
    if (!id.has_value() || (*id >= 0 && static_cast<size_t>(*id) < v.tokens.size())) continue;
    throw Error(ErrorKind::kBadInput, format("tokenizer.ggml.{}_token_id is {}, of {} tokens", name,
                                             *id, v.tokens.size()));
  }
}

int32_t gguf_token_type(const GgufVocabulary& v, size_t id) {
  return v.types.empty() ? static_cast<int32_t>(kNormal) : v.types[id];
}

Vocabulary gguf_tokens(const GgufVocabulary& v) {
  Vocabulary vocabulary;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    vocabulary.add(static_cast<int64_t>(id), v.tokens[id]);
  }
  return vocabulary;
}

std::vector<AddedToken> gguf_added_tokens(const GgufVocabulary& v) {
  std::vector<AddedToken> added;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    const int32_t type = gguf_token_type(v, id);
    if ((type != kControl && type != kUser && type != kUnknown) || v.tokens[id].empty()) continue;
    AddedToken t;
    t.id = static_cast<int32_t>(id);
    t.content = v.tokens[id];
    t.special = type != kUser;
    added.push_back(std::move(t));
  }
  return added;
}

namespace {

const GgufCuts* find_cuts(std::string_view name) {
  for (const GgufCuts& p : cuts_table()) {
    if (std::find(p.names.begin(), p.names.end(), name) != p.names.end()) return &p;
  }
  return nullptr;
}

}  // namespace

const GgufCuts& gguf_cuts(const GgufVocabulary& v) {
  if (const GgufCuts* found = find_cuts(v.pre)) return *found;
  throw Error(ErrorKind::kBadInput,
              format("tokenizer.ggml.pre '{}' is not known", printable(v.pre)));
}

std::string_view gguf_cuts_name(std::span<const std::string> regexes, bool ignore_merges) {
  std::string_view near;
  for (const GgufCuts& p : cuts_table()) {
    if (!std::equal(regexes.begin(), regexes.end(), p.regexes.begin(), p.regexes.end())) continue;
    if (p.rules.ignore_merges == ignore_merges) return p.names[0];
    if (near.empty()) near = p.names[0];
  }
  return near;
}

std::vector<BpeMerge> gguf_merges(const GgufVocabulary& v, const Vocabulary& vocabulary) {
  return v.model == "llama" ? merges_of_ranks(vocabulary, ranks_of_scores(v))
                            : parse_merges(v, vocabulary);
}

bool gguf_space_prefix(const GgufVocabulary& v) { return v.add_space_prefix.value_or(true); }

bool gguf_adds_bos(const GgufVocabulary& v) {
  if (!v.bos || v.add_bos) return v.bos && *v.add_bos;
  const GgufCuts* cuts = find_cuts(v.pre);
  return v.model == "llama" || (cuts != nullptr && cuts->rules.add_bos);
}

bool gguf_adds_eos(const GgufVocabulary& v) { return v.eos && v.add_eos.value_or(false); }

namespace {

Json json_of(std::string_view text) { return Json::parse(text); }

PipelineParts gpt2_parts(const GgufVocabulary& v) {
  const GgufCuts& cuts = gguf_cuts(v);
  Vocabulary vocabulary = gguf_tokens(v);
  const std::vector<BpeMerge> merges = gguf_merges(v, vocabulary);
  PipelineParts parts = byte_bpe_parts(std::move(vocabulary), merges, cuts.regexes,
                                       RegexSyntax::kOniguruma, cuts.rules.ignore_merges);
  if (cuts.rules.nfc) parts.normalizers = parse_normalizers(json_of(R"({"type":"NFC"})"));
  return parts;
}

PipelineParts llama_parts(const GgufVocabulary& v) {
  Vocabulary vocabulary = gguf_tokens(v);
  const std::vector<BpeMerge> merges = gguf_merges(v, vocabulary);
  const bool prefix = gguf_space_prefix(v);
  PipelineParts parts;
  parts.normalizers = parse_normalizers(
      json_of(prefix ? R"({"type":"Sequence","normalizers":[{"type":"Prepend","prepend":" "},
                   {"type":"Replace","pattern":{"String":" "},"content":"▁"}]})"
                     : R"({"type":"Replace","pattern":{"String":" "},"content":"▁"})"));
  parts.decoder = parse_decoder(json_of(prefix ? R"({"type":"Sequence","decoders":[
                   {"type":"Replace","pattern":{"String":"▁"},"content":" "},
                   {"type":"ByteFallback"},{"type":"Fuse"},
                   {"type":"Strip","content":" ","start":1,"stop":0}]})"
                                               : R"({"type":"Sequence","decoders":[
                   {"type":"Replace","pattern":{"String":"▁"},"content":" "},
                   {"type":"ByteFallback"},{"type":"Fuse"}]})"));
  BpeOptions o;
  o.byte_fallback = true;
  o.fuse_unk = true;
  if (v.unk.has_value()) o.unk_token = v.tokens[static_cast<size_t>(*v.unk)];
  parts.model = std::make_unique<Bpe>(std::move(vocabulary), merges, std::move(o));
  return parts;
}

}  // namespace

std::shared_ptr<const Tokenizer> tokenizer_from_gguf(const GgufVocabulary& v) {
  check_gguf_vocabulary(v);
  PipelineParts parts;
  if (v.model == "gpt2") {
    parts = gpt2_parts(v);
  } else if (v.model == "llama") {
    parts = llama_parts(v);
  } else {
    throw Error(
        ErrorKind::kBadInput,
        format("tokenizer.ggml.model '{}' is not known; gpt2 and llama are", printable(v.model)));
  }
  parts.added = gguf_added_tokens(v);
  IdTemplate form;
  if (gguf_adds_bos(v)) form.push_back(*v.bos);
  form.push_back(kTextItself);
  if (gguf_adds_eos(v)) form.push_back(*v.eos);
  if (form.size() > 1) parts.templates.push_back(std::move(form));
  auto tokenizer = std::make_shared<PipelineTokenizer>(std::move(parts));
  tokenizer->set_named({v.bos, v.eos, v.unk, v.pad});
  return tokenizer;
}

}  // namespace braid
