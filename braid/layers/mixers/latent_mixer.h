#pragma once
// What multi-head latent attention (arXiv 2405.04434) and its sparse form share: projections to
// queries and latents, positions, attention over expanded or kept latents, the output projection.

#include <string>

#include "braid/layers/attender.h"
#include "braid/layers/layer.h"
#include "braid/layers/mixers/latent_ref.h"
#include "braid/ops/latent_attention.h"
#include "braid/ops/rope.h"
#include "braid/state/latent_kv.h"

namespace braid {

struct LatentOptions {
  int64_t heads = 0;             // 0: the model's
  int64_t q_lora_rank = 0;       // 0: queries straight from the input
  int64_t kv_lora_rank = 0;      // 0: four times head_dim
  int64_t qk_nope_head_dim = 0;  // 0: head_dim
  int64_t qk_rope_head_dim = 0;  // 0: half of head_dim
  int64_t v_head_dim = 0;        // 0: head_dim
  bool rope = true;              // false: no positions (Kimi Linear)
  double rope_theta = 10000;
  bool interleaved = true;
  std::string rope_scaling = "none";
  double scale = 0;  // of q . k; 0: (nope + rope)^-0.5
  bool bias = false;
  double latent_eps = 1e-6;
  void visit(OptionVisitor& v) {
    v.field("heads", heads, int64_t{0});
    v.field("q_lora_rank", q_lora_rank, int64_t{0});
    v.field("kv_lora_rank", kv_lora_rank, int64_t{0});
    v.field("qk_nope_head_dim", qk_nope_head_dim, int64_t{0});
    v.field("qk_rope_head_dim", qk_rope_head_dim, int64_t{0});
    v.field("v_head_dim", v_head_dim, int64_t{0});
    v.field("rope", rope, true);
    v.field("rope_theta", rope_theta, 10000.0);
    v.field("interleaved", interleaved, true);
    v.field("rope_scaling", rope_scaling, std::string("none"));
    v.field("scale", scale, 0.0);
    v.field("bias", bias, false);
    v.field("latent_eps", latent_eps, 1e-6);
  }
};

// Sizes and positions of the options; errors begin with `layer`. Throws Error(kUsage).
MlaShape resolve_latent(std::string_view layer, const LatentOptions& options, const LayerEnv& env);

class LatentMixer : public Layer, public Attender {
 public:
  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override;

 protected:
  LatentMixer(const MlaShape& shape, const LayerEnv& env, ParamBuilder& params);
  AttendedPositions positions_of(const LatentOptions& options) const;

  // What a token is to attention.
  struct Parts {
    Tensor query_latent;  // [T, q_lora_rank] after its norm; undefined without q_lora_rank
    Tensor q;             // [T, H, nope + rope], turned
    Tensor c, k_rope;     // [T, rank] after its norm, [T, rope] turned
  };
  // -> [T, H, dv]. x as in forward().
  virtual Tensor attend(const Context& ctx, const Tensor& x, const Parts& parts, const Batch& batch,
                        States states) = 0;

  const MlaShape& shape() const { return shape_; }
  LatentConfig latent_config() const;
  const Parameter& kv_b() const { return kv_b_; }
  // Keys [T, H, nope + rope] and values [T, H, dv] of this call's tokens.
  std::pair<Tensor, Tensor> expand(const Context& ctx, const Parts& parts);
  // Over all tokens of each sequence, which starts with this call.
  Tensor expanded(const Context& ctx, const Parts& parts, const Batch& batch);
  // This call's latents as the next positions of sequence s.
  void append(const Context& ctx, const Parts& parts, const Batch& batch, int64_t s,
              LatentKv& state) const;
  // The definition's weights, null where there is none.
  static MlaWeights reference_weights(const ReferenceParams& params);

 private:
  MlaShape shape_;
  RopeConfig rotation_;
  Parameter &kv_a_, &kv_a_norm_, &kv_b_, &o_;
  Parameter* q_ = nullptr;  // q_proj, or q_b_proj after q_a_proj and its norm
  Parameter *q_a_ = nullptr, *q_a_norm_ = nullptr;
  Parameter *q_a_bias_ = nullptr, *kv_a_bias_ = nullptr, *o_bias_ = nullptr;
};

}  // namespace braid
