#pragma once
// A model from a folder: Hugging Face's (config.json and safetensors, as downloaded), or braid's
// own (model.toml and weights.safetensors); or from a .gguf file.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "braid/importers/family.h"
#include "braid/importers/fill.h"
#include "braid/importers/tensor_source.h"
#include "braid/stack/model.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

// How the checkpoint's makers sample from it.
struct GenerationDefaults {
  std::vector<int32_t> eos;  // any of them ends an answer
  std::optional<int32_t> bos, pad;
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k;
};

struct LoadedModel {
  std::unique_ptr<Model> model;
  std::string family;  // "" = braid's own
  // Null: the folder has none and 256 is not its vocabulary.
  std::shared_ptr<const Tokenizer> tokenizer;
  GenerationDefaults generation;
  std::vector<std::string> notes;  // what was recognised and left out, one line each
};

struct LoadOptions {
  std::optional<WeightType> weights = {};  // of matrices; absent: as the checkpoint has them
  bool writable = false;                   // f32 copies, never views of the file: for training
  // Called when all but the weights is there, with the types they will be kept in; may throw.
  std::function<void(const LoadedModel&, std::span<const WeightType>)> before_fill = {};
  ByteProgress progress = {};  // while weights are read
};

bool is_hf_folder(const std::string& path);  // holds a config.json, and no model.toml
bool has_weights(const std::string& path);   // a folder that load_model can fill a model from
// Settings alone, from config.json or model.toml; no weights are needed.
ModelSettings load_settings(const std::string& path);

// Strict: throws Error(kBadInput) listing the tensors that are missing, left over or of another
// shape, and the keys of config.json that are not understood.
LoadedModel load_model(const Context& ctx, const std::string& path,
                       const LoadOptions& options = {});
// The type load_model would keep each parameter in, in the model's order; nothing is filled.
std::vector<WeightType> loaded_types(const std::string& path, const LoadOptions& options = {});

// The pieces, for `convert`.
struct HfCheckpoint {
  ReadConfig config;
  std::unique_ptr<TensorSource> source;
  TensorMap map;  // fits the source: every tensor is used or recognised
  std::vector<std::string> notes;
};
HfCheckpoint open_hf_checkpoint(const std::string& folder);
// The same for tensors from elsewhere (GGUF).
void fit_tensors(HfCheckpoint& checkpoint);

}  // namespace braid
