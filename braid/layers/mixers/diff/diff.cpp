#include <cmath>
#include <utility>

#include "braid/base/format.h"
#include "braid/layers/attender.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/diff/diff_ref.h"
#include "braid/layers/mixers/diff/difference.h"
#include "braid/layers/mixers/kv_cache.h"
#include "braid/ops/bias.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/rope.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct DiffConfig {
  AttentionHeads heads;  // counted singly, even; so are kv_heads
  bool interleaved = false;
  int64_t window = 0;
  std::string bias = "none";  // none, qkv, qkvo
  double lambda_init = 0;     // 0: 0.8 - 0.6 exp(-0.3 layer)
  std::string as, of;
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("interleaved", interleaved, false);
    v.field("window", window, int64_t{0});
    v.field("bias", bias, std::string("none"));
    v.field("lambda_init", lambda_init, 0.0);
    v.field("as", as, std::string());
    v.field("of", of, std::string());
  }
};

[[noreturn]] void usage(std::string message) {
  throw Error(ErrorKind::kUsage, "diff: " + std::move(message));
}

// Pairs of heads of keys and values as the cache and other layers see them: heads of twice the
// channels.
KvShape kv_shape(const DiffShape& s) {
  return {s.kv_heads / 2, 2 * s.head_dim, s.window, 0, 0, s.prefix};
}

void take_link(const DiffConfig& c, const LayerEnv& env, DiffShape& s) {
  const KvShape kv = read_kv_link("diff", env.links, c.of,
                                  {s.heads, c.heads.kv_heads, s.head_dim, s.head_dim, c.window, 2});
  if (kv.chunk != 0) usage(format("{} has chunk={}, which diff does not know", c.of, kv.chunk));
  s.kv_heads = 2 * kv.heads;
  if (c.window == 0) s.window = kv.window;
  s.reads = true;
}

DiffShape resolve(const DiffConfig& c, const LayerEnv& env) {
  AttentionHeads own = c.heads;
  if (!c.of.empty()) own.kv_heads = 0;  // the publisher's
  DiffShape s{own.resolved("diff", env)};
  s.require_pairs("diff");
  s.width = env.width;
  if (s.heads % 2 != 0 || s.kv_heads % 2 != 0)
    usage(format("heads={} and kv_heads={} come in pairs; they must be even", s.heads, s.kv_heads));
  s.interleaved = c.interleaved;
  if (!s.rope && c.interleaved)
    usage("interleaved=true says how positions turn, but rope=false; leave it out");
  if (c.window < 0) usage(format("window={} is negative; 0 is no window", c.window));
  s.window = c.window;
  if (c.bias != "none" && c.bias != "qkv" && c.bias != "qkvo")
    usage(format("bias={} is none of none, qkv, qkvo", c.bias));
  s.qkv_bias = c.bias != "none";
  s.o_bias = c.bias == "qkvo";
  if (!(c.lambda_init >= 0 && c.lambda_init < 1))
    usage(format("lambda_init={} is not in [0, 1); 0 is by depth", c.lambda_init));
  // A layer of the published models is a mixer and a channel.
  const double depth = static_cast<double>(env.layer_index / 2);
  s.lambda_init = c.lambda_init > 0 ? c.lambda_init : 0.8 - 0.6 * std::exp(-0.3 * depth);
  if (!c.of.empty()) take_link(c, env, s);
  if (s.window > 0) s.prefix = env.meta_tokens;
  if (!c.as.empty() && env.links != nullptr) env.links->declare(c.as, kv_link(kv_shape(s)));
  return s;
}

class Diff final : public Layer, public Attender {
 public:
  Diff(DiffConfig config, const DiffShape& s, const LayerEnv& env, ParamBuilder& params)
      : config_(std::move(config)),
        shape_(s),
        o_(params.matrix("o_proj.weight", env.width, s.heads * s.head_dim, env.out_init_std)),
        subln_(params.vector("subln.weight", {2 * s.head_dim}, Init::ones())) {
    for (const char* name : {"q_proj", "k_proj", "v_proj"}) {
      if (s.reads && !inputs_.empty()) break;
      const int64_t rows = (inputs_.empty() ? s.heads : s.kv_heads) * s.head_dim;
      const std::string own = name;
      inputs_.push_back(&params.matrix(own + ".weight", rows, env.width, env.init_std));
      biases_.push_back(s.qkv_bias ? &params.vector(own + ".bias", {rows}, Init::zeros())
                                   : nullptr);
    }
    if (s.o_bias) o_bias_ = &params.vector("o_proj.bias", {env.width}, Init::zeros());
    const auto vector = [&](const char* name) {
      return &params.vector(name, {s.head_dim}, Init::normal(0.1));
    };
    lambda_ = {vector("lambda_q1"), vector("lambda_k1"), vector("lambda_q2"), vector("lambda_k2"),
               s.lambda_init};
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const int64_t tokens = x.size(0), d = shape_.head_dim;
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    RopeConfig rotation = shape_.rotation();
    rotation.interleaved = shape_.interleaved;
    Tensor table;
    if (shape_.rope) table = rope_table(ctx, rotation, batch.seq_starts, batch.offsets);
    const auto turned = [&](size_t i, int64_t heads) {
      const Tensor y = reshape(ctx, biased(ctx, in[i], biases_[i]), {tokens, heads, d});
      return shape_.rope ? rope(ctx, rotation, y, table) : y;
    };
    const Tensor q = spread_pairs(ctx, turned(0, shape_.heads));
    Tensor o;
    if (shape_.reads) {
      o = attend_kv(ctx, attention_config(), q, batch, batch.links->get(config_.of));
    } else {
      const Shape pairs = {tokens, shape_.kv_heads / 2, 2 * d};
      const Tensor k = reshape(ctx, turned(1, shape_.kv_heads), pairs);
      const Tensor v = reshape(ctx, biased(ctx, in[2], biases_[2]), pairs);
      LinkValue kv = kept_kv(ctx, k, v, batch, states);
      o = attend_kv(ctx, attention_config(), q, batch, kv);
      publish_kv(batch, config_.as, std::move(kv));
    }
    o = rms_norm(ctx, pair_difference(ctx, o, lambda_), subln_, kSublnEps);
    o = scale(ctx, o, static_cast<float>(1 - shape_.lambda_init));
    return biased(ctx, linear(ctx, reshape(ctx, o, {tokens, shape_.heads * d}), o_), o_bias_);
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
  AttendedPositions positions() const override { return config_.heads.positions(shape_.window); }
  bool needs_library() const override { return attention_needs_library(attention_config()); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    const DiffRef<double, ReferenceParams> ref(shape_, params);
    std::vector<std::vector<double>> kv;
    kv = shape_.reads ? params.links->get(config_.of) : ref.keys_and_values(x);
    std::vector<double> y = ref(x, kv[0], kv[1]);
    if (!config_.as.empty() && params.links != nullptr)
      params.links->put(config_.as, std::move(kv));
    return y;
  }

 private:
  AttentionConfig attention_config() const {
    AttentionConfig c;
    c.heads = shape_.heads;
    c.kv_heads = shape_.kv_heads / 2;
    c.head_dim = 2 * shape_.head_dim;
    c.scale = static_cast<float>(shape_.scale());
    c.window = shape_.window;
    c.prefix = shape_.prefix;
    return c;
  }

  DiffConfig config_;
  DiffShape shape_;
  Parameter &o_, &subln_;
  std::vector<Parameter*> inputs_, biases_;  // of q, k, v; of q alone for a reader
  Parameter* o_bias_ = nullptr;
  Lambda lambda_;
};

}  // namespace

std::unique_ptr<Layer> make_diff(const Options& options, const LayerEnv& env,
                                 ParamBuilder& params) {
  auto config = read_options<DiffConfig>("diff", options);
  const DiffShape shape = resolve(config, env);
  return std::make_unique<Diff>(std::move(config), shape, env, params);
}

}  // namespace braid
