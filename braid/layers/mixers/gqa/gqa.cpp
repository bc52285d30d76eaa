#include <cmath>
#include <utility>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/attender.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/attention_heads.h"
#include "braid/layers/mixers/gqa/gqa_ref.h"
#include "braid/layers/mixers/kv_cache.h"
#include "braid/ops/bias.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/rope.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct GqaConfig {
  AttentionHeads heads;
  double rotary = 1;         // part of each head that turns
  bool interleaved = false;  // rotary pairs (2i, 2i + 1)
  std::string qk_norm = "none";
  bool one_plus = false;              // norms multiply by 1 + w
  int64_t window = 0;                 // tokens seen, the current one included; 0: all
  int64_t chunk = 0;                  // tokens see their own chunk of this many only; 0: all
  bool gate = false;                  // sigmoid gate on the heads' outputs, in q_proj
  std::string bias = "none";          // none, qkv, qkvo
  bool sinks = false;                 // a learned logit per head in the softmax's denominator
  double scale = 0;                   // of q . k; 0: head_dim^-0.5
  double softcap = 0;                 // of scores; 0: none
  double out_scale = 1;               // of the output
  std::string rope_scaling = "none";  // ops/rope_scaling.h
  std::string as, of;                 // publishes its keys and values; reads those of another layer
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("rotary", rotary, 1.0);
    v.field("interleaved", interleaved, false);
    v.field("qk_norm", qk_norm, std::string("none"));
    v.field("one_plus", one_plus, false);
    v.field("window", window, int64_t{0});
    v.field("chunk", chunk, int64_t{0});
    v.field("gate", gate, false);
    v.field("bias", bias, std::string("none"));
    v.field("sinks", sinks, false);
    v.field("scale", scale, 0.0);
    v.field("softcap", softcap, 0.0);
    v.field("out_scale", out_scale, 1.0);
    v.field("rope_scaling", rope_scaling, std::string("none"));
    v.field("as", as, std::string());
    v.field("of", of, std::string());
  }
};

[[noreturn]] void usage(std::string message) {
  throw Error(ErrorKind::kUsage, "gqa: " + std::move(message));
}

int64_t rotary_channels(const GqaConfig& c, int64_t head_dim) {
  if (!c.heads.rope) {
    if (c.rotary != 1 || c.interleaved || c.rope_scaling != "none") {
      usage(
          "rotary, interleaved and rope_scaling say how positions turn, but rope=false; leave them "
          "out");
    }
    return 0;
  }
  if (!(c.rotary > 0 && c.rotary <= 1)) usage(format("rotary={} is not in (0, 1]", c.rotary));
  const int64_t channels = static_cast<int64_t>(static_cast<double>(head_dim) * c.rotary);
  if (channels < 2 || channels % 2 != 0) {
    usage(format("rotary={} of head_dim={} gives {} channels to turn, which come in pairs",
                 c.rotary, head_dim, channels));
  }
  return channels;
}

void resolve_norm(const GqaConfig& c, GqaShape& s) {
  if (c.qk_norm != "none" && c.qk_norm != "head" && c.qk_norm != "full")
    usage(format("qk_norm={} is none of none, head, full", c.qk_norm));
  s.qk_norm = c.qk_norm == "head"   ? QkNorm::kHead
              : c.qk_norm == "full" ? QkNorm::kFull
                                    : QkNorm::kNone;
  if (c.one_plus && s.qk_norm == QkNorm::kNone)
    usage("one_plus=true is about the norms of qk_norm, but qk_norm=none");
  if (c.gate && s.qk_norm == QkNorm::kFull)
    usage(
        "gate=true puts the gate between the heads' queries, which qk_norm=full takes as one row");
  s.one_plus = c.one_plus;
}

// The shape of a reader: heads and what may be seen are those of the published keys and values.
void take_link(const GqaConfig& c, const LayerEnv& env, GqaShape& s) {
  const KvShape kv = read_kv_link("gqa", env.links, c.of,
                                  {s.heads, c.heads.kv_heads, s.head_dim, s.head_dim, c.window});
  if (c.chunk != 0 && c.chunk != kv.chunk)
    usage(format("chunk={}, but {} has chunk={}", c.chunk, c.of, kv.chunk));
  s.kv_heads = kv.heads;
  if (c.window == 0) s.window = kv.window;
  s.chunk = kv.chunk;
  s.reads = true;
}

KvShape kv_shape(const GqaShape& s) {
  return {s.kv_heads, s.head_dim, s.window, s.chunk, 0, s.prefix};
}

GqaShape resolve(const GqaConfig& c, const LayerEnv& env) {
  AttentionHeads own = c.heads;
  if (!c.of.empty()) own.kv_heads = 0;  // the publisher's
  own = own.resolved("gqa", env);
  GqaShape s;
  s.width = env.width;
  s.heads = own.heads;
  s.kv_heads = own.kv_heads;
  s.head_dim = own.head_dim;
  s.theta = own.rope_theta;
  s.rotary = rotary_channels(c, s.head_dim);
  s.interleaved = c.interleaved;
  if (s.rotary > 0) s.scaling = parse_rope_scaling("gqa", c.rope_scaling, s.rotary);
  if (c.window < 0) usage(format("window={} is negative; 0 is no window", c.window));
  if (c.chunk < 0) usage(format("chunk={} is negative; 0 is no chunks", c.chunk));
  s.window = c.window;
  s.chunk = c.chunk;
  resolve_norm(c, s);
  s.gate = c.gate;
  if (c.bias != "none" && c.bias != "qkv" && c.bias != "qkvo")
    usage(format("bias={} is none of none, qkv, qkvo", c.bias));
  s.qkv_bias = c.bias != "none";
  s.o_bias = c.bias == "qkvo";
  s.sinks = c.sinks;
  if (c.scale < 0) usage(format("scale={} is negative; 0 is head_dim^-0.5", c.scale));
  s.scale = c.scale > 0 ? c.scale : own.scale();
  if (c.softcap < 0) usage(format("softcap={} is negative; 0 is no cap", c.softcap));
  s.softcap = c.softcap;
  if (!(c.out_scale > 0)) usage(format("out_scale={} is not positive", c.out_scale));
  s.out_scale = c.out_scale;
  s.eps = env.norm_eps;
  if (!c.of.empty()) take_link(c, env, s);
  if (s.window > 0) s.prefix = env.meta_tokens;
  if (s.chunk > 0 && env.meta_tokens > 0)
    usage(format("chunk={} would hide the {} meta tokens", s.chunk, env.meta_tokens));
  if (!c.as.empty() && env.links != nullptr) {
    env.links->declare(c.as, kv_link(kv_shape(s)));
  }
  return s;
}

class Gqa final : public Layer, public Attender {
 public:
  Gqa(GqaConfig config, const GqaShape& shape, const LayerEnv& env, ParamBuilder& params)
      : config_(std::move(config)),
        shape_(shape),
        q_(params.matrix("q_proj.weight", shape.heads * shape.head_dim * (shape.gate ? 2 : 1),
                         env.width, env.init_std)),
        k_(kv_matrix("k_proj.weight", env, params)),
        v_(kv_matrix("v_proj.weight", env, params)),
        o_(params.matrix("o_proj.weight", env.width, shape.heads * shape.head_dim,
                         env.out_init_std)) {
    const int64_t d = shape.head_dim;
    if (shape.qk_norm != QkNorm::kNone) {
      const bool full = shape.qk_norm == QkNorm::kFull;
      const Init one = shape.one_plus ? Init::zeros() : Init::ones();
      q_norm_ = &params.vector("q_norm.weight", {full ? shape.heads * d : d}, one);
      if (!shape.reads)
        k_norm_ = &params.vector("k_norm.weight", {full ? shape.kv_heads * d : d}, one);
    }
    if (shape.qkv_bias) {
      q_bias_ = &params.vector("q_proj.bias", {q_.value.size(0)}, Init::zeros());
      for (auto& [bias, name] : {std::pair(&k_bias_, "k_proj.bias"), {&v_bias_, "v_proj.bias"}}) {
        if (!shape.reads) *bias = &params.vector(name, {shape.kv_heads * d}, Init::zeros());
      }
    }
    if (shape.o_bias) o_bias_ = &params.vector("o_proj.bias", {env.width}, Init::zeros());
    if (shape.sinks) sinks_ = &params.vector("sinks", {shape.heads}, Init::zeros());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const int64_t tokens = x.size(0), heads = shape_.heads, d = shape_.head_dim;
    std::vector<Parameter*> projections = {&q_};
    if (!shape_.reads) projections.insert(projections.end(), {k_, v_});
    const std::vector<Tensor> in = linear_many(ctx, x, projections);
    Tensor q = biased(ctx, in[0], q_bias_), gate;
    if (shape_.qk_norm == QkNorm::kFull) q = norm(ctx, q, *q_norm_);
    if (shape_.gate) {
      const std::vector<Tensor> halves =
          split_columns(ctx, reshape(ctx, q, {tokens * heads, 2 * d}), {d, d});
      q = halves[0];
      gate = halves[1];
    } else {
      q = reshape(ctx, q, {tokens, heads, d});
    }
    if (shape_.qk_norm == QkNorm::kHead) q = norm(ctx, q, *q_norm_);
    const RopeConfig rotation{shape_.theta, shape_.rotary, shape_.interleaved, 0, shape_.scaling};
    Tensor table;
    if (shape_.rotary > 0) {
      table = rope_table(ctx, rotation, batch.seq_starts, batch.offsets, batch.contexts);
      q = rope(ctx, rotation, q, table);
    }
    Tensor o;
    if (shape_.reads) {
      o = attend_kv(ctx, attention_config(), q, batch, batch.links->get(config_.of), sinks_);
    } else {
      const std::vector<Tensor> own = keys_and_values(ctx, in, rotation, table);
      LinkValue kv = kept_kv(ctx, own[0], own[1], batch, states);
      o = attend_kv(ctx, attention_config(), q, batch, kv, sinks_);
      publish_kv(batch, config_.as, std::move(kv));
    }
    if (shape_.gate) o = sigmoid_mul(ctx, reshape(ctx, o, {tokens * heads, d}), gate);
    o = biased(ctx, linear(ctx, reshape(ctx, o, {tokens, heads * d}), o_), o_bias_);
    return scale(ctx, o, static_cast<float>(shape_.out_scale));
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    return shape_.reads ? nullptr : make_kv(ctx, kv_shape(shape_), options);
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    return shape_.reads ? 0 : kv_bytes(kv_shape(shape_), tokens, options);
  }
  size_t state_read_bytes(int64_t tokens, const StateOptions& options) const override {
    return kv_read_bytes(kv_shape(shape_), tokens, options);
  }
  Options options() const override { return write_options(config_); }
  AttendedPositions positions() const override {
    AttendedPositions p = config_.heads.positions(shape_.window);
    p.rotary = config_.rotary;
    if (config_.rope_scaling != "none") p.scaling = config_.rope_scaling;
    return p;
  }
  bool needs_library() const override { return attention_needs_library(attention_config()); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override {
    const auto given = [&](const char* name) {
      const auto found = params.values.find(name);
      return found == params.values.end() ? nullptr : found->second.data();
    };
    const GqaWeights<double> w{
        given("q_proj.weight"), given("k_proj.weight"), given("v_proj.weight"),
        given("o_proj.weight"), given("q_norm.weight"), given("k_norm.weight"),
        given("q_proj.bias"),   given("k_proj.bias"),   given("v_proj.bias"),
        given("o_proj.bias"),   given("sinks")};
    const GqaRef<double> ref(shape_, w);
    std::vector<std::vector<double>> kv;
    kv = shape_.reads ? params.links->get(config_.of) : ref.keys_and_values(x, tokens);
    std::vector<double> y = ref(x, tokens, kv[0], kv[1]);
    if (!config_.as.empty() && params.links != nullptr)
      params.links->put(config_.as, std::move(kv));
    return y;
  }

 private:
  AttentionConfig attention_config() const {
    AttentionConfig c;
    c.heads = shape_.heads;
    c.kv_heads = shape_.kv_heads;
    c.head_dim = shape_.head_dim;
    c.scale = static_cast<float>(shape_.scale);
    c.window = shape_.window;
    c.chunk = shape_.chunk;
    c.softcap = static_cast<float>(shape_.softcap);
    c.prefix = shape_.prefix;
    c.rounded = weight_view(q_).type != WeightType::kF32;
    return c;
  }
  Tensor norm(const Context& ctx, const Tensor& x, Parameter& gain) const {
    return rms_norm(ctx, x, gain, shape_.eps, shape_.one_plus);
  }

  // The projections of a layer with keys and values of its own; null for a reader.
  Parameter* kv_matrix(const char* name, const LayerEnv& env, ParamBuilder& params) const {
    if (shape_.reads) return nullptr;
    return &params.matrix(name, shape_.kv_heads * shape_.head_dim, env.width, env.init_std);
  }

  // projected = outputs of q, k and v -> k, v [T, Hkv, d].
  std::vector<Tensor> keys_and_values(const Context& ctx, const std::vector<Tensor>& projected,
                                      const RopeConfig& rotation, const Tensor& table) const {
    const Shape by_head = {projected[1].size(0), shape_.kv_heads, shape_.head_dim};
    Tensor k = biased(ctx, projected[1], k_bias_);
    if (shape_.qk_norm == QkNorm::kFull) k = norm(ctx, k, *k_norm_);
    k = reshape(ctx, k, by_head);
    if (shape_.qk_norm == QkNorm::kHead) k = norm(ctx, k, *k_norm_);
    if (shape_.rotary > 0) k = rope(ctx, rotation, k, table);
    return {k, reshape(ctx, biased(ctx, projected[2], v_bias_), by_head)};
  }

  GqaConfig config_;
  GqaShape shape_;
  Parameter& q_;
  Parameter *k_, *v_;
  Parameter& o_;
  Parameter *q_norm_ = nullptr, *k_norm_ = nullptr;
  Parameter *q_bias_ = nullptr, *k_bias_ = nullptr, *v_bias_ = nullptr, *o_bias_ = nullptr;
  Parameter* sinks_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_gqa(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  auto config = read_options<GqaConfig>("gqa", options);
  const GqaShape shape = resolve(config, env);
  return std::make_unique<Gqa>(std::move(config), shape, env, params);
}

}  // namespace braid
