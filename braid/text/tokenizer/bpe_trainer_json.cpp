#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/text/tokenizer/bpe_trainer.h"

namespace braid {
namespace {

Json pre_tokenizer(const BpeTrainOptions& o) {
  const bool gpt2 = o.cut == "gpt2";
  Json bytes = Json::object({{"type", "ByteLevel"},
                             {"add_prefix_space", false},
                             {"trim_offsets", false},
                             {"use_regex", gpt2}});
  if (gpt2) return bytes;
  Json split = Json::object({{"type", "Split"},
                             {"pattern", Json::object({{"Regex", cut_style(o.cut).regex}})},
                             {"behavior", "Isolated"},
                             {"invert", false}});
  return Json::object(
      {{"type", "Sequence"}, {"pretokenizers", Json::array({std::move(split), std::move(bytes)})}});
}

Json added_token(const std::string& content) {
  return Json::object({{"content", content},
                       {"single_word", false},
                       {"lstrip", false},
                       {"rstrip", false},
                       {"normalized", false},
                       {"special", true}});
}

}  // namespace

std::string tokenizer_json(const TrainedBpe& t) {
  Json added = Json::array();
  for (size_t id = 0; id < t.options.special.size(); ++id) {
    Json token = Json::object({{"id", id}});
    const Json fields = added_token(t.options.special[id]);
    for (const Json::Member& m : fields.members()) token.set(m.key, m.value);
    added.push(std::move(token));
  }
  // Members are appended directly: set() would look for each of them first.
  std::vector<Json::Member> vocab;
  for (size_t id = 0; id < t.tokens.size(); ++id) vocab.push_back({t.tokens[id], id});
  Json merges = Json::array();
  for (const auto& [left, right] : t.merges) {
    merges.push(Json::array(
        {Json(t.tokens[static_cast<size_t>(left)]), Json(t.tokens[static_cast<size_t>(right)])}));
  }
  Json model = Json::object({{"type", "BPE"},
                             {"dropout", nullptr},
                             {"unk_token", nullptr},
                             {"continuing_subword_prefix", nullptr},
                             {"end_of_word_suffix", nullptr},
                             {"fuse_unk", false},
                             {"byte_fallback", false},
                             {"ignore_merges", false},
                             {"vocab", Json::object_of(std::move(vocab))},
                             {"merges", std::move(merges)}});
  const Json decoder = Json::object({{"type", "ByteLevel"},
                                     {"add_prefix_space", true},
                                     {"trim_offsets", true},
                                     {"use_regex", true}});
  return Json::object({{"version", "1.0"},
                       {"truncation", nullptr},
                       {"padding", nullptr},
                       {"added_tokens", std::move(added)},
                       {"normalizer", nullptr},
                       {"pre_tokenizer", pre_tokenizer(t.options)},
                       {"post_processor", nullptr},
                       {"decoder", decoder},
                       {"model", std::move(model)}})
             .dump() +
         "\n";
}

std::string tokenizer_config_json(const TrainedBpe& t) {
  Json added = Json::object();
  for (size_t id = 0; id < t.options.special.size(); ++id) {
    added.set(format("{}", id), added_token(t.options.special[id]));
  }
  Json config = Json::object({{"tokenizer_class", "PreTrainedTokenizerFast"},
                              {"added_tokens_decoder", std::move(added)},
                              {"clean_up_tokenization_spaces", false}});
  if (!t.options.special.empty()) config.set("eos_token", t.options.special[0]);
  return config.dump_pretty();
}

}  // namespace braid
