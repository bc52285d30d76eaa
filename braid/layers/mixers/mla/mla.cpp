#include <cmath>
#include <utility>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/heads.h"
#include "braid/layers/mixers/mla/mla_ref.h"
#include "braid/ops/attention.h"
#include "braid/ops/bias.h"
#include "braid/ops/latent_attention.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/rope.h"
#include "braid/ops/view.h"
#include "braid/state/latent_kv.h"

namespace braid {
namespace {

struct MlaConfig {
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

[[noreturn]] void usage(std::string message) {
  throw Error(ErrorKind::kUsage, "mla: " + std::move(message));
}

int64_t positive(const char* name, int64_t given, int64_t otherwise) {
  if (given < 0) usage(format("{}={} is negative", name, given));
  return given > 0 ? given : otherwise;
}

void resolve_positions(const MlaConfig& c, MlaShape& s) {
  if (!c.rope) {
    if (c.rope_theta != 10000 || !c.interleaved || c.rope_scaling != "none") {
      usage(
          "rope_theta, interleaved and rope_scaling say how positions turn, but rope=false; leave "
          "them out");
    }
    s.rotate = false;
    return;
  }
  if (!(c.rope_theta > 0)) usage(format("rope_theta={} is not positive", c.rope_theta));
  if (s.rope % 2 != 0) {
    usage(format("qk_rope_head_dim={} is odd, but channels turn in pairs; rope=false turns none",
                 s.rope));
  }
  s.theta = c.rope_theta;
  s.interleaved = c.interleaved;
  s.scaling = parse_rope_scaling("mla", c.rope_scaling, s.rope);
}

MlaShape resolve(const MlaConfig& c, const LayerEnv& env) {
  const HeadSizes sizes = resolve_heads("mla", {c.heads, c.qk_nope_head_dim, 0, 0}, env);
  MlaShape s;
  s.width = env.width;
  s.heads = sizes.heads;
  s.nope = sizes.key_dim;
  s.q_rank = positive("q_lora_rank", c.q_lora_rank, 0);
  s.rank = positive("kv_lora_rank", c.kv_lora_rank, 4 * s.nope);
  s.rope = positive("qk_rope_head_dim", c.qk_rope_head_dim, std::max<int64_t>(2, s.nope / 4 * 2));
  s.dv = positive("v_head_dim", c.v_head_dim, s.nope);
  resolve_positions(c, s);
  if (c.scale < 0) usage(format("scale={} is negative; 0 is the head's size to -0.5", c.scale));
  s.scale = c.scale > 0 ? c.scale : 1.0 / std::sqrt(static_cast<double>(s.nope + s.rope));
  if (!(c.latent_eps > 0)) usage(format("latent_eps={} is not positive", c.latent_eps));
  s.eps = c.latent_eps;
  s.bias = c.bias;
  return s;
}

class Mla final : public Layer {
 public:
  Mla(MlaConfig config, const MlaShape& s, const LayerEnv& env, ParamBuilder& params)
      : config_(std::move(config)),
        shape_(s),
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

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const int64_t tokens = x.size(0), heads = shape_.heads;
    Tensor q, latent;
    if (q_a_ == nullptr) {
      const std::vector<Tensor> in = linear_many(ctx, x, {{q_, &kv_a_}});
      q = in[0];
      latent = in[1];
    } else {
      const std::vector<Tensor> in = linear_many(ctx, x, {{q_a_, &kv_a_}});
      q = linear(ctx, rms_norm(ctx, biased(ctx, in[0], q_a_bias_), *q_a_norm_, shape_.eps), *q_);
      latent = in[1];
    }
    q = reshape(ctx, q, {tokens, heads, shape_.nope + shape_.rope});
    const std::vector<Tensor> parts =
        split_columns(ctx, biased(ctx, latent, kv_a_bias_), {shape_.rank, shape_.rope});
    const Tensor c = rms_norm(ctx, parts[0], kv_a_norm_, shape_.eps);
    Tensor k_rope = parts[1];
    if (shape_.rotate) {
      const Tensor table =
          rope_table(ctx, rotation_, batch.seq_starts, batch.offsets, batch.contexts);
      RopeConfig of_queries = rotation_;
      of_queries.first = shape_.nope;
      q = rope(ctx, of_queries, q, table);
      k_rope = rope(ctx, rotation_, k_rope, table);
    }
    const Tensor o = states.empty() ? expanded(ctx, q, c, k_rope, batch)
                                    : with_states(ctx, q, c, k_rope, batch, states);
    return biased(ctx, linear(ctx, reshape(ctx, o, {tokens, heads * shape_.dv}), o_), o_bias_);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    return std::make_unique<LatentKv>(ctx, shape_.rank, shape_.rope, options.kv);
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    return LatentKv::bytes_at(shape_.rank, shape_.rope, tokens, options.kv);
  }
  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override {
    const auto given = [&](const char* name) {
      const auto found = params.values.find(name);
      return found == params.values.end() ? nullptr : found->second.data();
    };
    const MlaWeights w{given("q_proj.weight"),
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
    return MlaRef(shape_, w)(x, tokens);
  }

 private:
  LatentConfig latent_config() const {
    return {shape_.heads, shape_.rank, shape_.nope,
            shape_.rope,  shape_.dv,   static_cast<float>(shape_.scale)};
  }
  static Tensor biased(const Context& ctx, const Tensor& y, Parameter* bias) {
    return bias == nullptr ? y : add_bias(ctx, y, *bias);
  }

  Tensor expanded(const Context& ctx, const Tensor& q, const Tensor& c, const Tensor& k_rope,
                  const Batch& batch) {
    const LatentConfig config = latent_config();
    const auto [k, v] = expand_latent(ctx, config, linear(ctx, c, kv_b_), k_rope);
    return attention(ctx, config.expanded(), q, k, v, batch.seq_starts);
  }

  Tensor with_states(const Context& ctx, const Tensor& q, const Tensor& c, const Tensor& k_rope,
                     const Batch& batch, States states) const {
    const int64_t ld_k = shape_.rotate ? shape_.rope : shape_.rank + shape_.rope;
    std::vector<LatentView> views;
    for (size_t s = 0; s < states.size(); ++s) {
      auto* state = dynamic_cast<LatentKv*>(states[s]);
      BRAID_CHECK(state != nullptr && state->length() == batch.offsets[s]);
      const int64_t begin = batch.seq_starts[s];
      state->append(ctx, c.data() + begin * shape_.rank, shape_.rank, k_rope.data() + begin * ld_k,
                    ld_k, batch.length(static_cast<int64_t>(s)));
      views.push_back(state->view());
    }
    return latent_attention(ctx, latent_config(), q, kv_b_, batch.seq_starts, views);
  }

  MlaConfig config_;
  MlaShape shape_;
  RopeConfig rotation_;
  Parameter &kv_a_, &kv_a_norm_, &kv_b_, &o_;
  Parameter* q_ = nullptr;  // q_proj, or q_b_proj after q_a_proj and its norm
  Parameter *q_a_ = nullptr, *q_a_norm_ = nullptr;
  Parameter *q_a_bias_ = nullptr, *kv_a_bias_ = nullptr, *o_bias_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_mla(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  auto config = read_options<MlaConfig>("mla", options);
  const MlaShape shape = resolve(config, env);
  return std::make_unique<Mla>(std::move(config), shape, env, params);
}

}  // namespace braid
