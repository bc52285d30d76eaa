#pragma once
// Checkpoints of a training run. A run folder holds
//   checkpoints/step-N/  model.toml, the model's texts (model_text_names) where there are,
//   weights.safetensors, train/optimizer.safetensors,
//                        train/state.json, manifest.json
//   latest               -> checkpoints/step-N
// A checkpoint appears whole or not at all (written beside, then renamed); manifest.json holds the
// size and digest of every file, so that damage is seen before anything is used.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "braid/base/json.h"
#include "braid/ops/parameter.h"
#include "braid/stack/settings.h"
#include "braid/text/tokenizer/model_texts.h"
#include "braid/text/tokenizer/tokenizer.h"
#include "braid/train/optim.h"

namespace braid {

struct Checkpoint {
  std::string path;
  int64_t step = 0;
};

// Writes step-N, points `latest` at it and removes all but the `keep` newest (at least one), and
// what is newer than N. `state` is what else the run needs; empty texts are not written. When it
// throws (a full disk), every earlier checkpoint is still whole.
void save_checkpoint(const std::string& run_folder, int64_t step, const ModelSettings& model,
                     const ParameterSet& parameters, const Optimizer& optimizer, const Json& state,
                     int64_t keep, const TokenizerFiles& tokenizer = {},
                     const NamedTexts& beside = {});

// The newest undamaged checkpoint; nullopt when the folder has none at all. A damaged one is passed
// over with a line to `message`; when all are, throws Error(kBadInput) with what is wrong with
// each. One of another version throws too.
std::optional<Checkpoint> find_checkpoint(const std::string& run_folder,
                                          const std::function<void(const std::string&)>& message);

bool has_checkpoints(const std::string& run_folder);  // damaged or not

// Throws Error(kBadInput) naming file, size and digest where they are not what the manifest says,
// or another version.
void check_checkpoint(const std::string& path);

// The same of model.toml and weights alone, which is what inference reads; a folder without a
// manifest passes.
void check_checkpoint_model(const std::string& path);

// The `state` that was saved.
Json checkpoint_state(const Checkpoint& checkpoint);

// Fills weights and optimizer; returns the `state` that was saved.
Json load_checkpoint(const Context& ctx, const Checkpoint& checkpoint, ParameterSet& parameters,
                     Optimizer& optimizer);

// The folder that holds model.toml and weights.safetensors: `folder` itself, or its `latest`
// checkpoint.
std::string checkpoint_folder(const std::string& folder);

}  // namespace braid
