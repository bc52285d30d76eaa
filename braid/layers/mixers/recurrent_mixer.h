#pragma once
// What the mixers over ops/recurrence.h share: their state, their short convolutions, their shape
// as a Layer.

#include <memory>
#include <span>
#include <vector>

#include "braid/layers/layer.h"
#include "braid/layers/mixers/heads.h"
#include "braid/ops/recurrence.h"

namespace braid {

// What a recurrent mixer remembers of a sequence: the matrix [HV, K, V] and the window [Kc - 1, C]
// of each of its convolutions.
struct RecurrentMemory {
  HeadSizes sizes;
  int64_t taps = 0;                    // Kc; 0 = no convolution
  std::vector<int64_t> conv_channels;  // C of each
};

// The states of a batch, taken apart; empty when the layer was given none.
class RecurrentStates {
 public:
  RecurrentStates(const RecurrentMemory& memory, States states);
  std::span<float* const> matrices() const { return matrices_; }
  std::span<const Tensor> windows(size_t conv) const;
  void advance(const Batch& batch) const;  // after the layer has read the batch

 private:
  States states_;
  std::vector<float*> matrices_;
  std::vector<std::vector<Tensor>> windows_;  // [convolution][sequence]
};

class RecurrentMixer : public Layer {
 public:
  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override;
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override;

 protected:
  explicit RecurrentMixer(RecurrentMemory memory) : memory_(std::move(memory)) {}
  const HeadSizes& sizes() const { return memory_.sizes; }
  const RecurrentMemory& memory() const { return memory_; }

 private:
  RecurrentMemory memory_;
};

// The depthwise filter [C, 1, Kc] of a convolution, initialised as torch does; null for taps = 0.
Parameter* conv_filter(ParamBuilder& params, const std::string& name, int64_t channels,
                       int64_t taps);

// x [T, C] through its causal convolution (plus bias [C] unless null) and silu; silu alone when the
// filter is null.
Tensor conv_silu(const Context& ctx, const Tensor& x, Parameter* filter, const Batch& batch,
                 std::span<const Tensor> windows, Parameter* bias = nullptr);

// q_proj, k_proj, v_proj and, for taps > 0, {q,k,v}_conv1d: the front of the fla layers.
class QkvFront {
 public:
  // `steps` keys and values a token (DeltaProduct), channel order (step, head, channel).
  QkvFront(ParamBuilder& params, const LayerEnv& env, const HeadSizes& sizes, int64_t taps,
           int64_t steps = 1);
  std::vector<Parameter*> projections() const { return {q_, k_, v_}; }

  // q [T, H, K], k [T * steps, H, K], v [T * steps, HV, V].
  struct Qkv {
    Tensor q, k, v;
  };
  // From the outputs of projections(): convolved, silu, by head.
  Qkv operator()(const Context& ctx, std::span<const Tensor> projected, const Batch& batch,
                 const RecurrentStates& kept) const;
  // The channels of the three convolutions, for RecurrentMemory.
  static std::vector<int64_t> channels(const HeadSizes& sizes, int64_t steps = 1) {
    return {sizes.keys(), sizes.keys() * steps, sizes.values() * steps};
  }

 private:
  HeadSizes sizes_;
  Parameter *q_, *k_, *v_, *q_conv_, *k_conv_, *v_conv_;
};

// The log-decays [H] = -rates of mixers whose decay is a constant of the head.
Tensor constant_decays(const Context& ctx, std::span<const double> rates);

// x [T, heads * n] seen as [T, heads, n].
Tensor as_heads(const Context& ctx, const Tensor& x, int64_t heads);

}  // namespace braid
