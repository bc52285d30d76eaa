#include "braid/text/tokenizer/tokenizer_config.h"

#include <algorithm>
#include <array>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/component.h"

namespace braid {
namespace {

// Classes that build their own template from add_bos_token and add_eos_token, whatever the
// post_processor of the file says.
constexpr std::array<std::string_view, 6> kTemplateClasses = {
    "LlamaTokenizer",         "LlamaTokenizerFast", "CodeLlamaTokenizer",
    "CodeLlamaTokenizerFast", "GemmaTokenizer",     "GemmaTokenizerFast"};

// "bos_token": "<s>" or {"content": "<s>", ...}
std::string named_token(const Json& config, std::string_view key) {
  const Json* token = config.find(key);
  if (token == nullptr || token->is_null()) return "";
  return token->is_object() ? token->at("content").as_string() : token->as_string();
}

std::optional<int32_t> id_of(const PipelineParts& parts, const std::string& token) {
  if (token.empty()) return std::nullopt;
  const int32_t known = parts.model->vocabulary().find(token);
  if (known >= 0) return known;
  for (const AddedToken& added : parts.added) {
    if (added.content == token) return added.id;
  }
  return std::nullopt;
}

}  // namespace

bool class_follows_flags(const Json& config) {
  const std::string name = string_or(config, "tokenizer_class", "");
  return std::find(kTemplateClasses.begin(), kTemplateClasses.end(), name) !=
         kTemplateClasses.end();
}

std::shared_ptr<const Tokenizer> finish_with_config(PipelineParts parts, std::string_view text) {
  Tokenizer::NamedIds named;
  if (!text.empty()) {
    try {
      const Json config = Json::parse(text);
      named.bos = id_of(parts, named_token(config, "bos_token"));
      named.eos = id_of(parts, named_token(config, "eos_token"));
      named.unk = id_of(parts, named_token(config, "unk_token"));
      named.pad = id_of(parts, named_token(config, "pad_token"));
      if (class_follows_flags(config)) {
        IdTemplate form;
        if (bool_or(config, "add_bos_token", true) && named.bos) form.push_back(*named.bos);
        form.push_back(kTextItself);
        if (bool_or(config, "add_eos_token", false) && named.eos) form.push_back(*named.eos);
        parts.templates = {std::move(form)};
      }
    } catch (Error& e) {
      throw e.add_context("tokenizer_config.json");
    }
  }
  auto tokenizer = std::make_shared<PipelineTokenizer>(std::move(parts));
  tokenizer->set_named(named);
  return tokenizer;
}

std::vector<AddedToken> config_added_tokens(std::string_view text) {
  std::vector<AddedToken> tokens;
  if (text.empty()) return tokens;
  const Json config = Json::parse(text);
  const Json* added = config.find("added_tokens_decoder");
  if (added == nullptr || added->is_null()) return tokens;
  for (const Json::Member& m : added->members()) {
    const std::optional<int64_t> id = parse_int(m.key);
    if (!id.has_value() || *id < 0 || *id > Vocabulary::kMaxId) {
      throw Error(ErrorKind::kBadInput,
                  format("added_tokens_decoder: '{}' is no token id", printable(m.key)));
    }
    AddedToken t;
    t.id = static_cast<int32_t>(*id);
    t.content = m.value.at("content").as_string();
    t.special = bool_or(m.value, "special", false);
    t.single_word = bool_or(m.value, "single_word", false);
    t.lstrip = bool_or(m.value, "lstrip", false);
    t.rstrip = bool_or(m.value, "rstrip", false);
    t.normalized = bool_or(m.value, "normalized", false);
    tokens.push_back(std::move(t));
  }
  return tokens;
}

}  // namespace braid
