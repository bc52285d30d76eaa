#include "braid/importers/config_reader.h"

#include <algorithm>
#include <cmath>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

// Keys that change nothing in a forward pass over text.
constexpr std::string_view kHarmless[] = {
    "architectures", "model_type", "torch_dtype", "dtype", "transformers_version", "use_cache",
    "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id",
    "sep_token_id", "decoder_start_token_id", "attention_dropout", "hidden_dropout",
    "output_router_logits", "router_aux_loss_coef", "router_jitter_noise", "router_z_loss_coef",
    "aux_loss_alpha", "seq_aux", "pretraining_tp", "ep_size", "auto_map", "_name_or_path",
    "name_or_path", "attn_implementation", "_attn_implementation", "_attn_implementation_autoset",
    "return_dict", "output_attentions", "output_hidden_states", "is_decoder", "is_encoder_decoder",
    "add_cross_attention", "cross_attention_hidden_size", "tie_encoder_decoder",
    "chunk_size_feed_forward", "problem_type", "id2label", "label2id", "num_labels",
    "task_specific_params", "finetuning_task", "torchscript", "use_bfloat16", "pruned_heads",
    "prefix", "tokenizer_class", "cache_implementation", "layer_norm_type", "max_length",
    "min_length", "do_sample", "temperature", "top_k", "top_p", "typical_p", "repetition_penalty",
    "num_beams", "num_return_sequences", "tf_legacy_loss", "unsloth_fixed", "unsloth_version",
    "quantization_config_note", "model_max_length", "bos_token", "eos_token", "_commit_hash",
    "use_return_dict", "embedding_dropout", "resid_dropout", "num_nextn_predict_layers", "use_mtp",
    "num_mtp_modules", "mtp_transformer_layers", "mtp_num_hidden_layers",
    "mtp_use_dedicated_embeddings", "keys_to_ignore_at_inference", "gradient_checkpointing",
    "output_past", "_num_labels", "transformers.js_config", "transformers_weights",
    "experts_implementation", "_experts_implementation", "_attn_implementation_internal",
    "_experts_implementation_internal",
    // How to generate, which generation_config.json says now.
    "max_new_tokens", "early_stopping", "num_beam_groups", "diversity_penalty", "length_penalty",
    "no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "output_scores",
    "return_dict_in_generate", "forced_bos_token_id", "forced_eos_token_id",
    "remove_invalid_values", "exponential_decay_length_penalty", "suppress_tokens",
    "begin_suppress_tokens"};

// Of the outer object of a model with other towers.
constexpr std::string_view kOuterWords[] = {"vision",
                                            "image",
                                            "video",
                                            "audio",
                                            "mm_",
                                            "boi_",
                                            "eoi_",
                                            "boa_",
                                            "eoa_",
                                            "projector",
                                            "spatial_merge",
                                            "multimodal",
                                            "language_model_only"};

// What the outer object says of the language model too.
bool of_whole_model(std::string_view key) {
  return key == "tie_word_embeddings" || key == "quantization_config" ||
         key == "compression_config" || key == "quantization";
}

bool harmless(std::string_view key) {
  return std::find(std::begin(kHarmless), std::end(kHarmless), key) != std::end(kHarmless);
}

bool of_other_towers(std::string_view key) {
  return std::any_of(std::begin(kOuterWords), std::end(kOuterWords), [&](std::string_view word) {
    return key.find(word) != std::string_view::npos;
  });
}

constexpr size_t kConfigBytes = size_t{16} << 20;

}  // namespace

Json parse_config(std::string_view text) {
  return Json::parse(text, {.bytes = kConfigBytes, .depth = 32, .infinity = true});
}

Json load_config(const std::string& path) {
  const std::string text = read_file(path, kConfigBytes);
  try {
    return parse_config(text);
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

ConfigReader::ConfigReader(Json root, std::string source)
    : root_(std::move(root)), source_(std::move(source)), config_(&root_) {
  if (!root_.is_object()) fail("is not an object");
  const Json* text = root_.find("text_config");
  if (text != nullptr && !text->is_null()) {
    if (!text->is_object())
      fail(format("text_config is {}, not an object", printable(text->dump())));
    config_ = text;
    nested_ = true;
  }
  const Json* type = config_->find("model_type");
  if (type == nullptr || type->is_null()) type = root_.find("model_type");
  if (type != nullptr && type->is_string()) model_type_ = type->as_string();
  if (const Json* ssm = root_.find("ssm_cfg"); model_type_.empty() && ssm && ssm->is_object()) {
    const Json* layer = ssm->find("layer");
    model_type_ = layer != nullptr && layer->is_string() ? layer->as_string() : "Mamba1";
  }
}

void ConfigReader::fail(const std::string& what) const {
  throw Error(ErrorKind::kBadInput, format("{}: {}", source_, what));
}

const Json* ConfigReader::find(const char* key) {
  seen_.insert(key);
  const Json* value = config_->find(key);
  if ((value == nullptr || value->is_null()) && nested_ && of_whole_model(key))
    value = root_.find(key);
  return value == nullptr || value->is_null() ? nullptr : value;
}

bool ConfigReader::explicit_null(const char* key) {
  seen_.insert(key);
  const Json* value = config_->find(key);
  return value != nullptr && value->is_null();
}

bool ConfigReader::has(const char* key) { return find(key) != nullptr; }

std::optional<int64_t> ConfigReader::maybe_integer(Keys keys, int64_t most) {
  std::optional<int64_t> out;
  const char* first = nullptr;
  for (const char* key : keys) {
    const Json* value = find(key);
    if (value == nullptr) continue;
    // Some writers give whole numbers as 64.0.
    const bool whole = value->is_number() && value->as_real() >= 0 &&
                       value->as_real() <= static_cast<double>(most) &&
                       value->as_real() == std::floor(value->as_real());
    if (!whole) {
      fail(
          format("{} is {}, not a whole number from 0 to {}", key, printable(value->dump()), most));
    }
    const auto n = static_cast<int64_t>(value->as_real());
    if (out && *out != n) fail(format("{} is {} but {} is {}", first, *out, key, n));
    if (!out) first = key;
    out = n;
  }
  return out;
}

int64_t ConfigReader::integer(Keys keys, std::optional<int64_t> fallback, int64_t most) {
  const std::optional<int64_t> value = maybe_integer(keys, most);
  if (value) return *value;
  if (!fallback) fail(format("{} is missing", *keys.begin()));
  return *fallback;
}

double ConfigReader::real(const char* key, std::optional<double> fallback) {
  const Json* value = find(key);
  if (value == nullptr) {
    if (!fallback) fail(format("{} is missing", key));
    return *fallback;
  }
  if (!value->is_number() || !std::isfinite(value->as_real())) {
    fail(format("{} is {}, not a number", key, printable(value->dump())));
  }
  return value->as_real();
}

bool ConfigReader::boolean(const char* key, bool fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (value->kind() != Json::Kind::kBool) {
    fail(format("{} is {}, neither true nor false", key, printable(value->dump())));
  }
  return value->as_bool();
}

std::string ConfigReader::text(const char* key, const std::string& fallback) {
  const Json* value = find(key);
  if (value == nullptr) return fallback;
  if (!value->is_string()) fail(format("{} is {}, not a text", key, printable(value->dump())));
  return value->as_string();
}

std::vector<int64_t> ConfigReader::integers(const char* key) {
  std::vector<int64_t> out;
  const Json* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) fail(format("{} is {}, not a list", key, printable(value->dump())));
  for (const Json& n : value->elements()) {
    if (n.kind() != Json::Kind::kInt || n.as_int() < 0 || n.as_int() > kMostSize) {
      fail(format("{} holds {}, not a whole number from 0", key, printable(n.dump())));
    }
    out.push_back(n.as_int());
  }
  return out;
}

std::vector<std::string> ConfigReader::texts(const char* key) {
  std::vector<std::string> out;
  const Json* value = find(key);
  if (value == nullptr) return out;
  if (!value->is_array()) fail(format("{} is {}, not a list", key, printable(value->dump())));
  for (const Json& n : value->elements()) {
    if (!n.is_string()) fail(format("{} holds {}, not a text", key, printable(n.dump())));
    out.push_back(n.as_string());
  }
  return out;
}

void ConfigReader::require_text(const char* key, Keys known) {
  const std::string value = text(key, "");
  if (value.empty() && !has(key)) return;
  std::string list;
  for (const char* k : known) {
    if (value == k) return;
    list += (list.empty() ? "" : " or ") + std::string(k);
  }
  fail(format("{} is \"{}\"; {} is known for {}", key, printable(value), list, model_type_));
}

void ConfigReader::require_boolean(const char* key, bool wanted) {
  if (boolean(key, wanted) != wanted) {
    fail(format("{} is {}; only {} is known for {}", key, !wanted, wanted, model_type_));
  }
}

void ConfigReader::require_integer(const char* key, int64_t wanted) {
  if (const int64_t n = integer(key, wanted); n != wanted)
    fail(format("{} is {}; only {} is known for {}", key, n, wanted, model_type_));
}

void ConfigReader::require_given(Keys keys) {
  for (const char* key : keys) {
    if (has(key)) return;
  }
  fail(format("{} is missing, and releases of the class differ in its default", *keys.begin()));
}

std::optional<bool> ConfigReader::tied_embeddings() {
  constexpr const char* kKey = "tie_word_embeddings";
  if (!has(kKey)) return std::nullopt;
  const bool tied = boolean(kKey, false);
  const Json* outer = root_.find(kKey);
  const bool disagree = nested_ && outer != nullptr && !outer->is_null() && *outer != Json(tied);
  return disagree ? std::nullopt : std::optional(tied);
}

void ConfigReader::ignore(Keys keys) {
  for (const char* key : keys) seen_.insert(key);
}

void ConfigReader::finish() const {
  std::string unknown;
  const auto note = [&](const Json::Member& m) {
    unknown += (unknown.empty() ? "" : ", ") + printable(m.key) + " = " + printable(m.value.dump());
  };
  for (const Json::Member& m : config_->members()) {
    if (!m.value.is_null() && !seen_.contains(m.key) && !harmless(m.key)) note(m);
  }
  for (const Json::Member& m : root_.members()) {
    const Json* inner = config_->find(m.key);  // a copy says nothing new
    const bool known = !nested_ || m.key == "text_config" || of_whole_model(m.key) ||
                       harmless(m.key) || of_other_towers(m.key) ||
                       (inner != nullptr && *inner == m.value);
    if (!m.value.is_null() && !known) note(m);
  }
  if (unknown.empty()) return;
  fail(
      format("keys that {} does not know, so that the maths may differ: {}", model_type_, unknown));
}

}  // namespace braid
