#include "braid/layers/mixers/latent_mixer.h"

#include <cmath>
#include <utility>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/mixers/heads.h"
#include "braid/ops/attention.h"
#include "braid/ops/bias.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

[[noreturn]] void usage(std::string_view layer, const std::string& message) {
  throw Error(ErrorKind::kUsage, format("{}: {}", layer, message));
}

int64_t positive(std::string_view layer, const char* name, int64_t given, int64_t otherwise) {
  if (given < 0) usage(layer, format("{}={} is negative", name, given));
  return given > 0 ? given : otherwise;
}

void resolve_positions(std::string_view layer, const LatentOptions& c, MlaShape& s) {
  if (!c.rope) {
    if (c.rope_theta != 10000 || !c.interleaved || c.rope_scaling != "none") {
      usage(
          layer,
          "rope_theta, interleaved and rope_scaling say how positions turn, but rope=false; leave "
          "them out");
    }
    s.rotate = false;
    return;
  }
  if (!(c.rope_theta > 0)) usage(layer, format("rope_theta={} is not positive", c.rope_theta));
  if (s.rope % 2 != 0) {
    usage(layer,
          format("qk_rope_head_dim={} is odd, but channels turn in pairs; rope=false turns none",
                 s.rope));
  }
  s.theta = c.rope_theta;
  s.interleaved = c.interleaved;
  s.scaling = parse_rope_scaling(layer, c.rope_scaling, s.rope);
}

}  // namespace

MlaShape resolve_latent(std::string_view layer, const LatentOptions& c, const LayerEnv& env) {
  const HeadSizes sizes = resolve_heads(layer, {c.heads, c.qk_nope_head_dim, 0, 0}, env);
  MlaShape s;
  s.width = env.width;
  s.heads = sizes.heads;
  s.nope = sizes.key_dim;
  s.q_rank = positive(layer, "q_lora_rank", c.q_lora_rank, 0);
  s.rank = positive(layer, "kv_lora_rank", c.kv_lora_rank, 4 * s.nope);
  s.rope =
      positive(layer, "qk_rope_head_dim", c.qk_rope_head_dim, std::max<int64_t>(2, s.nope / 4 * 2));
  s.dv = positive(layer, "v_head_dim", c.v_head_dim, s.nope);
  resolve_positions(layer, c, s);
  if (c.scale < 0)
    usage(layer, format("scale={} is negative; 0 is the head's size to -0.5", c.scale));
  s.scale = c.scale > 0 ? c.scale : 1.0 / std::sqrt(static_cast<double>(s.nope + s.rope));
  if (!(c.latent_eps > 0)) usage(layer, format("latent_eps={} is not positive", c.latent_eps));
  s.eps = c.latent_eps;
  s.bias = c.bias;
  return s;
}

LatentMixer::LatentMixer(const MlaShape& s, const LayerEnv& env, ParamBuilder& params)
    : shape_(s),
      rotation_{s.theta, s.rope, s.interleaved, 0, s.scaling},
      kv_a_(params.matrix("kv_a_proj_with_mqa.weight", s.rank + s.rope, env.width, env.init_std)),
      kv_a_norm_(params.vector("kv_a_layernorm.weight", {s.rank}, Init::ones())),
      kv_b_(params.matrix("kv_b_proj.weight", s.heads * (s.nope + s.dv), s.rank, env.init_std)),
      o_(params.matrix("o_proj.weight", env.width, s.heads * s.dv, env.out_init_std)) {
  kv_b_.by_columns = true;
  const int64_t queries = s.heads * (s.nope + s.rope);
  if (s.q_rank == 0) {
    q_ = &params.matrix("q_proj.weight", queries, env.width, env.init_std);
  } else {
    q_a_ = &params.matrix("q_a_proj.weight", s.q_rank, env.width, env.init_std);
    q_a_norm_ = &params.vector("q_a_layernorm.weight", {s.q_rank}, Init::ones());
    q_ = &params.matrix("q_b_proj.weight", queries, s.q_rank, env.init_std);
  }
  if (!s.bias) return;
  if (s.q_rank > 0) q_a_bias_ = &params.vector("q_a_proj.bias", {s.q_rank}, Init::zeros());
  kv_a_bias_ = &params.vector("kv_a_proj_with_mqa.bias", {s.rank + s.rope}, Init::zeros());
  o_bias_ = &params.vector("o_proj.bias", {env.width}, Init::zeros());
}

Tensor LatentMixer::forward(const Context& ctx, const Tensor& x, const Batch& batch,
                            States states) {
  const int64_t tokens = x.size(0), heads = shape_.heads;
  Parts p;
  Tensor q, latent;
  if (q_a_ == nullptr) {
    const std::vector<Tensor> in = linear_many(ctx, x, {{q_, &kv_a_}});
    q = in[0];
    latent = in[1];
  } else {
    const std::vector<Tensor> in = linear_many(ctx, x, {{q_a_, &kv_a_}});
    p.query_latent = rms_norm(ctx, biased(ctx, in[0], q_a_bias_), *q_a_norm_, shape_.eps);
    q = linear(ctx, p.query_latent, *q_);
    latent = in[1];
  }
  q = reshape(ctx, q, {tokens, heads, shape_.nope + shape_.rope});
  const std::vector<Tensor> parts =
      split_columns(ctx, biased(ctx, latent, kv_a_bias_), {shape_.rank, shape_.rope});
  p.c = rms_norm(ctx, parts[0], kv_a_norm_, shape_.eps);
  p.k_rope = parts[1];
  if (shape_.rotate) {
    const Tensor table =
        rope_table(ctx, rotation_, batch.seq_starts, batch.offsets, batch.contexts);
    RopeConfig of_queries = rotation_;
    of_queries.first = shape_.nope;
    q = rope(ctx, of_queries, q, table);
    p.k_rope = rope(ctx, rotation_, p.k_rope, table);
  }
  p.q = q;
  const Tensor o = attend(ctx, x, p, batch, states);
  return biased(ctx, linear(ctx, reshape(ctx, o, {tokens, heads * shape_.dv}), o_), o_bias_);
}

AttendedPositions LatentMixer::positions_of(const LatentOptions& c) const {
  const bool scaled = c.rope_scaling != "none";
  return {c.rope, c.rope ? c.rope_theta : 0, 1, scaled ? c.rope_scaling : "", 0};
}

LatentConfig LatentMixer::latent_config() const {
  return {shape_.heads, shape_.rank, shape_.nope,
          shape_.rope,  shape_.dv,   static_cast<float>(shape_.scale)};
}

std::pair<Tensor, Tensor> LatentMixer::expand(const Context& ctx, const Parts& parts) {
  return expand_latent(ctx, latent_config(), linear(ctx, parts.c, kv_b_), parts.k_rope);
}

Tensor LatentMixer::expanded(const Context& ctx, const Parts& parts, const Batch& batch) {
  const auto [k, v] = expand(ctx, parts);
  return attention(ctx, latent_config().expanded(), parts.q, k, v, batch.seq_starts);
}

void LatentMixer::append(const Context& ctx, const Parts& parts, const Batch& batch, int64_t s,
                         LatentKv& state) const {
  BRAID_CHECK(state.length() == batch.offsets[static_cast<size_t>(s)]);
  const int64_t ld_k = shape_.rotate ? shape_.rope : shape_.rank + shape_.rope;
  const int64_t begin = batch.seq_starts[static_cast<size_t>(s)];
  state.append(ctx, parts.c.data() + begin * shape_.rank, shape_.rank,
               parts.k_rope.data() + begin * ld_k, ld_k, batch.length(s));
}

MlaWeights LatentMixer::reference_weights(const ReferenceParams& params) {
  const auto given = [&](const char* name) {
    const auto found = params.values.find(name);
    return found == params.values.end() ? nullptr : found->second.data();
  };
  return {given("q_proj.weight"),
          given("q_a_proj.weight"),
          given("q_a_layernorm.weight"),
          given("q_b_proj.weight"),
          given("kv_a_proj_with_mqa.weight"),
          given("kv_a_layernorm.weight"),
          given("kv_b_proj.weight"),
          given("o_proj.weight"),
          given("q_a_proj.bias"),
          given("kv_a_proj_with_mqa.bias"),
          given("o_proj.bias")};
}

}  // namespace braid
