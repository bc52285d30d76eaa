#pragma once
// Multi-head latent attention (arXiv 2405.04434) between its projections: expanded into keys and
// values for training and long prefills, absorbed into queries and outputs for decoding.

#include <span>
#include <utility>

#include "braid/kernels/attention/latent.h"
#include "braid/kernels/attention/tiles.h"
#include "braid/ops/tape.h"

namespace braid {

struct LatentConfig {
  int64_t heads = 0;
  int64_t rank = 0;                    // of the latent
  int64_t nope = 0, rope = 0, dv = 0;  // of a head: channels without and with position, of values
  float scale = 1;

  // The heads of the expanded form.
  AttentionConfig expanded() const {
    AttentionConfig c{heads, heads, nope + rope, scale};
    c.value_dim = dv;
    return c;
  }
};

// kv [T, H * (nope + dv)], per head its key part, then its value, and k_rope [T, rope], shared by
// the heads -> k [T, H, nope + rope] = (key part | k_rope) and v [T, H, dv]. Recorded on the tape.
std::pair<Tensor, Tensor> expand_latent(const Context& ctx, const LatentConfig& config,
                                        const Tensor& kv, const Tensor& k_rope);

// q [T, H, nope + rope] contiguous, over kept latents: past[s] holds all of sequence s, its new
// tokens included; with chosen rows, for one new token. kv_b [H * (nope + dv), rank] is the weight
// that makes kv of latents. -> [T, H, dv]. Each sequence takes the form that costs fewer products,
// the absorbed one for up to kStepTokens (step.h) new tokens. Not differentiable.
Tensor latent_attention(const Context& ctx, const LatentConfig& config, const Tensor& q,
                        const Parameter& kv_b, std::span<const int64_t> seq_starts,
                        std::span<const LatentView> past);

// Products of either form for `tokens` new queries after `past` earlier ones, those that make keys,
// values and absorbed queries included.
double expanded_flops(const LatentConfig& config, int64_t past, int64_t tokens);
double absorbed_flops(const LatentConfig& config, int64_t past, int64_t tokens);

}  // namespace braid
