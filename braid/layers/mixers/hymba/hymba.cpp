#include <cmath>
#include <utility>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/mixers/attention_heads.h"
#include "braid/layers/mixers/hymba/hymba_ref.h"
#include "braid/layers/mixers/kv_cache.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/rope.h"
#include "braid/ops/selective_scan.h"
#include "braid/ops/view.h"
#include "braid/state/group_state.h"

namespace braid {
namespace {

struct HymbaConfig {
  AttentionHeads heads;  // head_dim of queries and keys
  int64_t expand = 2;    // inner channels = expand * width
  int64_t state = 16;
  int64_t conv = 4;     // taps, 0 = none
  int64_t dt_rank = 0;  // 0: width / 16, rounded up
  int64_t window = 0;   // tokens seen, the current one included; 0: all
  std::string as, of;   // publishes its keys and values; reads those of another layer
  void visit(OptionVisitor& v) {
    heads.visit(v);
    v.field("expand", expand, int64_t{2});
    v.field("state", state, int64_t{16});
    v.field("conv", conv, int64_t{4});
    v.field("dt_rank", dt_rank, int64_t{0});
    v.field("window", window, int64_t{0});
    v.field("as", as, std::string());
    v.field("of", of, std::string());
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "hymba: " + message);
}

KvShape own_kv(const HymbaShape& s) {
  KvShape kv{s.kv_heads, s.head_dim, s.window, 0, 0, s.prefix};
  if (s.value_dim() != s.head_dim) kv.value_dim = s.value_dim();
  return kv;
}

// Heads and window of a reader are those of the published keys and values; its own window may be
// narrower.
void take_link(const HymbaConfig& c, const LayerEnv& env, HymbaShape& s) {
  const KvShape kv = read_kv_link("hymba", env.links, c.of,
                                  {s.heads, c.heads.kv_heads, s.head_dim, s.value_dim(), c.window});
  if (kv.chunk != 0) usage(format("{} has chunk={}, which hymba does not know", c.of, kv.chunk));
  s.kv_heads = kv.heads;
  if (c.window == 0) s.window = kv.window;
  s.reads = true;
}

void check_options(const HymbaConfig& c) {
  for (const auto& [key, value] : {std::pair("state", c.state), {"expand", c.expand}}) {
    if (value < 1) usage(format("{}={} is not positive", key, value));
  }
  if (c.state > 256) usage(format("state={} is more than 256", c.state));
  if (c.dt_rank < 0 || c.window < 0)
    usage(format("dt_rank={} and window={} must not be negative", c.dt_rank, c.window));
}

HymbaShape resolve(const HymbaConfig& c, const LayerEnv& env) {
  check_options(c);
  AttentionHeads own = c.heads;
  if (!c.of.empty()) own.kv_heads = 0;  // the publisher's
  own = own.resolved("hymba", env);
  own.require_pairs("hymba");
  HymbaShape s;
  s.width = env.width;
  s.inner = c.expand * env.width;
  s.heads = own.heads;
  s.head_dim = own.head_dim;
  s.kv_heads = own.kv_heads;
  if (s.inner % s.heads != 0)
    usage(format("heads={} do not divide the {} inner channels (expand={} x width={})", s.heads,
                 s.inner, c.expand, env.width));
  s.states = c.state;
  s.dt_rank = c.dt_rank > 0 ? c.dt_rank : (env.width + 15) / 16;
  s.conv = c.conv > 0;
  s.rope = own.rope;
  s.theta = own.rope_theta;
  s.window = c.window;
  s.eps = env.norm_eps;
  if (!c.of.empty()) take_link(c, env, s);
  if (s.window > 0) s.prefix = env.meta_tokens;
  if (!c.as.empty() && s.reads) usage(format("as={} with of={}: it has no keys", c.as, c.of));
  if (!c.as.empty() && env.links != nullptr) env.links->declare(c.as, kv_link(own_kv(s)));
  return s;
}

class Hymba final : public RecurrentMixer, public Attender {
 public:
  Hymba(HymbaConfig config, const HymbaShape& s, const LayerEnv& env, ParamBuilder& params)
      : RecurrentMixer({{1, 1, s.states, s.inner}, config.conv, {s.inner}}),
        config_(std::move(config)),
        shape_(s),
        in_proj_(params.matrix("in_proj.weight", s.projected(), s.width, env.init_std)),
        out_proj_(params.matrix("out_proj.weight", s.width, s.inner, env.out_init_std)) {
    in_proj_.row_splits = {s.queries()};
    if (!s.reads) in_proj_.row_splits.insert(in_proj_.row_splits.end(), {s.keys(), s.values()});
    in_proj_.row_splits.insert(in_proj_.row_splits.end(), {s.inner, s.inner});
    conv_ = conv_filter(params, "conv1d.weight", s.inner, config_.conv);
    if (s.conv) conv_bias_ = &params.vector("conv1d.bias", {s.inner}, Init::zeros());
    x_proj_ = &params.gate_matrix("x_proj.weight", s.dt_rank + 2 * s.states, s.inner, env.init_std);
    x_proj_->row_splits = {s.dt_rank, s.states, s.states};
    dt_norm_ = &params.vector("dt_layernorm.weight", {s.dt_rank}, Init::ones());
    b_norm_ = &params.vector("b_layernorm.weight", {s.states}, Init::ones());
    c_norm_ = &params.vector("c_layernorm.weight", {s.states}, Init::ones());
    const double bound = 1.0 / std::sqrt(static_cast<double>(s.dt_rank));
    dt_proj_ = &params.add("dt_proj.weight", ParamRole::kMatrix, {s.inner, s.dt_rank},
                           Init::uniform(-bound, bound));
    dt_proj_->keep_f32 = true;
    scan_.dt_bias = &params.vector("dt_proj.bias", {s.inner}, Init::dt_bias());
    scan_.a_log = &params.vector("A_log", {s.inner, s.states}, Init::log_of_column(s.states));
    scan_.skip = &params.vector("D", {s.inner}, Init::ones());
    attention_norm_ = &params.vector("pre_avg_layernorm1.weight", {s.inner}, Init::ones());
    scan_norm_ = &params.vector("pre_avg_layernorm2.weight", {s.inner}, Init::ones());
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HymbaShape& s = shape_;
    const Tensor in = linear(ctx, x, in_proj_);
    const std::vector<Tensor> parts =
        s.reads ? split_columns(ctx, in, {s.queries(), s.inner, s.inner})
                : split_columns(ctx, in, {s.queries(), s.keys(), s.values(), s.inner, s.inner});
    const Tensor a = attention(ctx, parts, batch, members(states, 0));
    const size_t first = parts.size() - 2;
    const Tensor y =
        scan(ctx, parts[first], parts[first + 1], batch, members(states, s.reads ? 0 : 1));
    const Tensor both =
        add(ctx, rms_norm(ctx, a, *attention_norm_, s.eps), rms_norm(ctx, y, *scan_norm_, s.eps));
    return linear(ctx, scale(ctx, both, 0.5f), out_proj_);
  }

  // The cache and the scan's; a reader has the scan's alone.
  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    std::unique_ptr<LayerState> scan = RecurrentMixer::make_state(ctx, options);
    if (shape_.reads) return scan;
    std::vector<std::unique_ptr<LayerState>> both;
    both.push_back(make_kv(ctx, own_kv(shape_), options));
    both.push_back(std::move(scan));
    return std::make_unique<GroupState>(std::move(both));
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    return RecurrentMixer::state_bytes(tokens, options) +
           (shape_.reads ? 0 : kv_bytes(own_kv(shape_), tokens, options));
  }
  size_t state_read_bytes(int64_t tokens, const StateOptions& options) const override {
    return RecurrentMixer::state_bytes(tokens, options) +
           kv_read_bytes(own_kv(shape_), tokens, options);
  }
  Options options() const override { return write_options(config_); }
  AttendedPositions positions() const override { return config_.heads.positions(shape_.window); }
  bool needs_library() const override { return attention_needs_library(attention_config()); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    const HymbaRef<double, ReferenceParams> ref(shape_, params, x);
    std::vector<std::vector<double>> kv =
        shape_.reads ? params.links->get(config_.of) : ref.keys_and_values();
    std::vector<double> y = ref(kv[0], kv[1]);
    if (!config_.as.empty() && params.links != nullptr)
      params.links->put(config_.as, std::move(kv));
    return y;
  }

 private:
  std::vector<LayerState*> members(States states, size_t i) const {
    std::vector<LayerState*> out(states.begin(), states.end());
    if (shape_.reads) return out;
    for (LayerState*& state : out) state = &static_cast<GroupState&>(*state).member(i);
    return out;
  }

  AttentionConfig attention_config() const {
    const HymbaShape& s = shape_;
    AttentionConfig c;
    c.heads = s.heads;
    c.kv_heads = s.kv_heads;
    c.head_dim = s.head_dim;
    c.value_dim = s.value_dim();
    c.scale = static_cast<float>(1 / std::sqrt(static_cast<double>(s.head_dim)));
    c.window = s.window;
    c.prefix = s.prefix;
    return c;
  }

  // -> [T, D_i]
  Tensor attention(const Context& ctx, const std::vector<Tensor>& parts, const Batch& batch,
                   States states) {
    const HymbaShape& s = shape_;
    const RopeConfig rotation{s.theta, s.head_dim, false, 0, {}};
    Tensor table;
    if (s.rope) table = rope_table(ctx, rotation, batch.seq_starts, batch.offsets, batch.contexts);
    const auto turned = [&](const Tensor& x, int64_t heads) {
      const Tensor by_head = as_heads(ctx, x, heads);
      return s.rope ? rope(ctx, rotation, by_head, table) : by_head;
    };
    const AttentionConfig c = attention_config();
    const Tensor q = turned(parts[0], s.heads);
    Tensor out;
    if (s.reads) {
      out = attend_kv(ctx, c, q, batch, batch.links->get(config_.of));
    } else {
      LinkValue kv = kept_kv(ctx, turned(parts[1], s.kv_heads), as_heads(ctx, parts[2], s.kv_heads),
                             batch, states);
      out = attend_kv(ctx, c, q, batch, kv);
      publish_kv(batch, config_.as, std::move(kv));
    }
    return reshape(ctx, out, {q.size(0), s.inner});
  }

  // The gated scan of u, [T, D_i].
  Tensor scan(const Context& ctx, const Tensor& u, const Tensor& gate, const Batch& batch,
              States states) {
    const HymbaShape& s = shape_;
    const RecurrentStates kept(memory(), states);
    SelectiveScanInputs in;
    in.x = conv_silu(ctx, u, conv_, batch, kept.windows(0), conv_bias_);
    const std::vector<Tensor> dbc =
        split_columns(ctx, linear(ctx, in.x, *x_proj_), {s.dt_rank, s.states, s.states});
    in.raw = linear(ctx, rms_norm(ctx, dbc[0], *dt_norm_, s.eps), *dt_proj_);
    in.b = rms_norm(ctx, dbc[1], *b_norm_, s.eps);
    in.c = rms_norm(ctx, dbc[2], *c_norm_, s.eps);
    const Tensor y = selective_scan(ctx, in, scan_, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    return gated(ctx, gate, y);
  }

  HymbaConfig config_;
  HymbaShape shape_;
  Parameter &in_proj_, &out_proj_;
  Parameter *conv_ = nullptr, *conv_bias_ = nullptr, *x_proj_ = nullptr, *dt_proj_ = nullptr;
  Parameter *dt_norm_ = nullptr, *b_norm_ = nullptr, *c_norm_ = nullptr;
  SelectiveScanParams scan_{};
  Parameter *attention_norm_ = nullptr, *scan_norm_ = nullptr;
};

}  // namespace

std::unique_ptr<Layer> make_hymba(const Options& options, const LayerEnv& env,
                                  ParamBuilder& params) {
  auto config = read_options<HymbaConfig>("hymba", options);
  check_conv_taps("hymba", config.conv);
  const HymbaShape shape = resolve(config, env);
  return std::make_unique<Hymba>(std::move(config), shape, env, params);
}

}  // namespace braid
