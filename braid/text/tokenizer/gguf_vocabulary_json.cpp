// A GGUF file's vocabulary as the files of a Hugging Face folder.

#include <algorithm>
#include <tuple>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/gguf_vocabulary.h"

namespace braid {
namespace {

Json added_token(const AddedToken& t) {
  return Json::object({{"content", t.content},
                       {"single_word", t.single_word},
                       {"lstrip", t.lstrip},
                       {"rstrip", t.rstrip},
                       {"normalized", t.normalized},
                       {"special", t.special}});
}

Json byte_level(bool use_regex) {
  return Json::object({{"type", "ByteLevel"},
                       {"add_prefix_space", false},
                       {"trim_offsets", true},
                       {"use_regex", use_regex}});
}

Json pre_tokenizer(const GgufVocabulary& v) {
  if (v.model == "llama") return nullptr;
  Json parts = Json::array();
  for (const std::string_view regex : gguf_cuts(v).regexes) {
    parts.push(Json::object({{"type", "Split"},
                             {"pattern", Json::object({{"Regex", std::string(regex)}})},
                             {"behavior", "Isolated"},
                             {"invert", false}}));
  }
  parts.push(byte_level(false));
  return Json::object({{"type", "Sequence"}, {"pretokenizers", std::move(parts)}});
}

Json replace(const char* pattern, const char* content) {
  return Json::object({{"type", "Replace"},
                       {"pattern", Json::object({{"String", pattern}})},
                       {"content", content}});
}

Json normalizer(const GgufVocabulary& v) {
  if (v.model != "llama") return gguf_cuts(v).rules.nfc ? Json::object({{"type", "NFC"}}) : Json();
  Json blanks = replace(" ", "▁");
  if (!gguf_space_prefix(v)) return blanks;
  return Json::object(
      {{"type", "Sequence"},
       {"normalizers",
        Json::array({Json::object({{"type", "Prepend"}, {"prepend", "▁"}}), std::move(blanks)})}});
}

Json decoder(const GgufVocabulary& v) {
  if (v.model != "llama") return byte_level(true);
  Json parts = Json::array({replace("▁", " "), Json::object({{"type", "ByteFallback"}}),
                            Json::object({{"type", "Fuse"}})});
  if (gguf_space_prefix(v)) {
    parts.push(Json::object({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}}));
  }
  return Json::object({{"type", "Sequence"}, {"decoders", std::move(parts)}});
}

Json post_processor(const GgufVocabulary& v) {
  const auto named = [&](bool there, std::optional<int32_t> id) -> std::optional<NamedToken> {
    if (!there) return std::nullopt;
    return NamedToken{v.tokens[static_cast<size_t>(*id)], *id};
  };
  const auto bos = named(gguf_adds_bos(v), v.bos), eos = named(gguf_adds_eos(v), v.eos);
  if (bos && eos && bos->text == eos->text && bos->id != eos->id) {
    throw Error(ErrorKind::kBadInput,
                format("tokens {} and {}, which begin and end a text, are both '{}'; a "
                       "tokenizer.json tells them apart by their text",
                       bos->id, eos->id, printable(bos->text)));
  }
  return around_text(bos, eos);
}

// Rows that only fill the model's table up.
bool is_filling(const GgufVocabulary& v, size_t id) {
  return gguf_token_type(v, id) == kUnused && v.tokens[id] == format("[PAD{}]", id);
}

Json model(const GgufVocabulary& v) {
  // Members are appended directly: set() would look for each of them first.
  const Vocabulary tokens = gguf_tokens(v);
  std::vector<Json::Member> vocab;
  for (size_t id = 0; id < v.tokens.size(); ++id) {
    // Of a string that several rows have, the row that is found.
    const bool found = tokens.find(v.tokens[id]) == static_cast<int32_t>(id);
    if (found && !is_filling(v, id)) vocab.push_back({v.tokens[id], id});
  }
  // Of several ways to make one token the library needs an order; converters sort by id too.
  std::vector<BpeMerge> all = gguf_merges(v, tokens);
  std::sort(all.begin(), all.end(), [](const BpeMerge& a, const BpeMerge& b) {
    return std::tie(a.rank, a.left, a.right) < std::tie(b.rank, b.left, b.right);
  });
  Json merges = Json::array();
  for (const BpeMerge& m : all) {
    merges.push(Json::array({Json(v.tokens[static_cast<size_t>(m.left)]),
                             Json(v.tokens[static_cast<size_t>(m.right)])}));
  }
  const bool llama = v.model == "llama";
  Json unknown = nullptr;
  if (llama && v.unk) unknown = v.tokens[static_cast<size_t>(*v.unk)];
  return Json::object({{"type", "BPE"},
                       {"dropout", nullptr},
                       {"unk_token", std::move(unknown)},
                       {"continuing_subword_prefix", nullptr},
                       {"end_of_word_suffix", nullptr},
                       {"fuse_unk", llama},
                       {"byte_fallback", llama},
                       {"ignore_merges", !llama && gguf_cuts(v).rules.ignore_merges},
                       {"vocab", Json::object_of(std::move(vocab))},
                       {"merges", std::move(merges)}});
}

// One template alone is a text, several are named.
Json chat_templates(const TokenizerExtras& extras) {
  if (extras.chat_templates.size() == 1 && extras.chat_templates[0].first == "default")
    return extras.chat_templates[0].second;
  Json out = Json::array();
  for (const auto& [name, text] : extras.chat_templates)
    out.push(Json::object({{"name", name}, {"template", text}}));
  return out;
}

Json config_json(const GgufVocabulary& v, const TokenizerExtras& extras) {
  // The class that follows the post_processor of tokenizer.json, whatever it is.
  Json config = Json::object({{"tokenizer_class", "PreTrainedTokenizerFast"},
                              {"add_bos_token", gguf_adds_bos(v)},
                              {"add_eos_token", gguf_adds_eos(v)},
                              {"clean_up_tokenization_spaces", false}});
  const std::pair<const char*, std::optional<int32_t>> named[] = {
      {"bos_token", v.bos}, {"eos_token", v.eos}, {"unk_token", v.unk}, {"pad_token", v.pad}};
  for (const auto& [key, id] : named) {
    if (id) config.set(key, v.tokens[static_cast<size_t>(*id)]);
  }
  if (extras.max_length > 0) config.set("model_max_length", extras.max_length);
  if (!extras.chat_templates.empty()) config.set("chat_template", chat_templates(extras));
  return config;
}

}  // namespace

Json around_text(const std::optional<NamedToken>& bos, const std::optional<NamedToken>& eos) {
  if (!bos && !eos) return nullptr;
  Json special = Json::object();
  const auto token = [&](const std::optional<NamedToken>& t, int type, Json& to) {
    if (!t) return;
    to.push(Json::object({{"SpecialToken", Json::object({{"id", t->text}, {"type_id", type}})}}));
    special.set(t->text, Json::object({{"id", t->text},
                                       {"ids", Json::array({Json(t->id)})},
                                       {"tokens", Json::array({Json(t->text)})}}));
  };
  const auto around = [&](const char* name, int type, Json& to) {
    token(bos, type, to);
    to.push(Json::object({{"Sequence", Json::object({{"id", name}, {"type_id", type}})}}));
    token(eos, type, to);
  };
  Json single = Json::array(), pair = Json::array();
  around("A", 0, single);
  around("A", 0, pair);
  around("B", 1, pair);
  return Json::object({{"type", "TemplateProcessing"},
                       {"single", std::move(single)},
                       {"pair", std::move(pair)},
                       {"special_tokens", std::move(special)}});
}

std::string tokenizer_config_of_gguf(const GgufVocabulary& v, const TokenizerExtras& extras) {
  check_gguf_vocabulary(v);
  return config_json(v, extras).dump_pretty();
}

TokenizerFiles tokenizer_files_of_gguf(const GgufVocabulary& v, const TokenizerExtras& extras) {
  tokenizer_from_gguf(v);  // checks all of it
  Json added = Json::array();
  for (const AddedToken& t : gguf_added_tokens(v)) {
    Json token = Json::object({{"id", t.id}});
    const Json fields = added_token(t);
    for (const Json::Member& m : fields.members()) token.set(m.key, m.value);
    added.push(std::move(token));
  }
  TokenizerFiles out;
  out.tokenizer = Json::object({{"version", "1.0"},
                                {"truncation", nullptr},
                                {"padding", nullptr},
                                {"added_tokens", std::move(added)},
                                {"normalizer", normalizer(v)},
                                {"pre_tokenizer", pre_tokenizer(v)},
                                {"post_processor", post_processor(v)},
                                {"decoder", decoder(v)},
                                {"model", model(v)}})
                      .dump() +
                  "\n";
  Json decoder_tokens = Json::object();
  for (const AddedToken& t : gguf_added_tokens(v))
    decoder_tokens.set(format("{}", t.id), added_token(t));
  Json config = config_json(v, extras);
  config.set("added_tokens_decoder", std::move(decoder_tokens));
  out.config = config.dump_pretty();
  return out;
}

}  // namespace braid
