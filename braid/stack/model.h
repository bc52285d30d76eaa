#pragma once
// A model: a stack expression turned into layers. One forward for training, prefill and decode.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "braid/layers/batch.h"
#include "braid/layers/layer.h"
#include "braid/layers/residual.h"
#include "braid/ops/cross_entropy.h"
#include "braid/ops/parameter.h"
#include "braid/stack/norm.h"
#include "braid/stack/settings.h"
#include "braid/stack/spec.h"
#include "braid/state/sequence_state.h"

namespace braid {

class Model {
 public:
  enum class Fill {
    kRandom,    // from settings.seed
    kDeferred,  // parameters have shapes and no memory: a loader gives each its value (set_f32,
                // set_weight in ops/parameter.h) before the first forward
  };
  // Builds all layers and their parameters. Throws Error(kUsage) for unknown layers and options
  // that do not fit. On a dry context only shapes exist.
  Model(const Context& ctx, const ModelSettings& settings, Fill fill = Fill::kRandom);

  // ids: batch.tokens() token ids -> [T, width] after the final norm. sequences: one per sequence
  // of the batch, advanced in place, or empty when every sequence starts fresh and nothing is kept.
  Tensor hidden(const Context& ctx, std::span<const int32_t> ids, const Batch& batch,
                std::span<SequenceState* const> sequences = {});
  // [T, vocab] logits of hidden rows [T, width], scaled and capped as the settings say.
  Tensor logits(const Context& ctx, const Tensor& hidden);
  // Mean next-token loss over the batch, recorded when ctx.tape is set.
  LossResult loss(const Context& ctx, std::span<const int32_t> ids,
                  std::span<const int32_t> targets, const Batch& batch,
                  const LossConfig& config = {});

  // A fresh sequence: empty states for every executed sub-layer.
  SequenceState new_sequence(const Context& ctx, const StateOptions& options = {}) const;
  // Parameters that one token does not use (experts it is not sent to).
  int64_t idle_parameters() const;
  // State bytes of one sequence after `tokens` tokens.
  size_t state_bytes(int64_t tokens, const StateOptions& options = {}) const;
  // Of all states, what one more token after `tokens` others reads (Layer::state_read_bytes).
  size_t state_read_bytes(int64_t tokens, const StateOptions& options = {}) const;

  void after_step(const Context& ctx);  // after each optimizer step

  ParameterSet& parameters() { return parameters_; }
  const ParameterSet& parameters() const { return parameters_; }
  Parameter& head() { return *head_; }
  const ModelSettings& settings() const { return settings_; }  // resolved
  // The expression with every layer's options in canonical form.
  std::string canonical_stack() const;

  // Keep only each sub-layer's input in training and run it again in backward.
  void set_recompute(bool on) { recompute_ = on; }

  struct SubLayer {
    std::string name;   // "kda", or "gqa|mamba2", "gqa+mamba2" side by side
    std::string path;   // of the slot's parameters, its norm included: "layers.3."
    std::string scope;  // of the layer's own: "layers.3.kda."
    Layer* layer;
    bool reads;  // values of layers before it, so that it cannot run alone
  };
  // Unique layers in order of first execution, for plan and verify.
  std::vector<SubLayer> sublayers() const;
  int64_t executed() const { return static_cast<int64_t>(flat_.steps.size()); }
  const FlatStack& flat() const { return flat_; }
  const Residual& residual() const { return *residual_; }

 private:
  struct Slot {
    std::string name;
    std::unique_ptr<Layer> layer;
    Norm before, after;                     // by norm_placement
    bool publishes = false, reads = false;  // values between layers
  };
  void add_slots(const ParamBuilder& params, LayerEnv env);
  // What layers see: sequences that begin in `batch` have the meta tokens before their own, and
  // all positions count them.
  struct Begun {
    Batch batch;
    std::vector<bool> begins;  // by sequence
  };
  Begun with_meta_tokens(const Batch& batch) const;
  // Embeddings of the ids and their positions, meta tokens where sequences begin: [rows, width].
  Tensor embed(const Context& ctx, std::span<const int32_t> ids, const Batch& batch,
               const std::vector<bool>& begins);
  Tensor head_input(const Context& ctx, const Tensor& hidden) const;
  void run_sublayer(const Context& ctx, size_t step, ResidualRun& run, const Batch& batch,
                    std::span<SequenceState* const> sequences);

  ModelSettings settings_;
  FlatStack flat_;
  ParameterSet parameters_;
  Parameter* embedding_ = nullptr;
  Parameter* positions_ = nullptr;    // null: none are learned
  Parameter* meta_tokens_ = nullptr;  // [N, width]; null: none
  Norm embedding_norm_, final_norm_;
  Parameter* head_ = nullptr;
  std::vector<Slot> slots_;
  std::unique_ptr<Residual> residual_;
  bool recompute_ = false;
};

}  // namespace braid
