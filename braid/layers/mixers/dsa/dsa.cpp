#include "braid/layers/mixers/dsa/dsa_ref.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "braid/base/format.h"
#include "braid/layers/mixer.h"
#include "braid/layers/mixers/dsa/index_loss.h"
#include "braid/layers/mixers/latent_mixer.h"
#include "braid/ops/attention.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/indexer.h"
#include "braid/ops/layer_norm.h"
#include "braid/ops/linear.h"
#include "braid/ops/selected_attention.h"
#include "braid/ops/view.h"
#include "braid/state/group_state.h"

namespace braid {
namespace {

constexpr double kKeyNormEps = 1e-6;
constexpr int64_t kGathered = 32;  // queries whose latents are copied together at a time

struct DsaConfig {
  LatentOptions latent;
  int64_t index_n_heads = 64;
  int64_t index_head_dim = 128;
  int64_t index_topk = 2048;
  bool index_interleaved = false;  // GLM-5's pairs
  std::string stage = "sparse";    // or warmup: attention over all keys
  double index_loss = 0;           // coefficient of the indexer's loss
  void visit(OptionVisitor& v) {
    latent.visit(v);
    v.field("index_n_heads", index_n_heads, int64_t{64});
    v.field("index_head_dim", index_head_dim, int64_t{128});
    v.field("index_topk", index_topk, int64_t{2048});
    v.field("index_interleaved", index_interleaved, false);
    v.field("stage", stage, std::string("sparse"));
    v.field("index_loss", index_loss, 0.0);
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "dsa: " + message);
}

DsaShape resolve(const DsaConfig& c, const LayerEnv& env) {
  DsaShape s;
  s.latent = resolve_latent("dsa", c.latent, env);
  for (const auto& [key, value] : {std::pair("index_n_heads", c.index_n_heads),
                                   {"index_head_dim", c.index_head_dim},
                                   {"index_topk", c.index_topk}}) {
    if (value < 1) usage(format("{}={} is not positive", key, value));
  }
  if (s.latent.rotate && s.latent.rope > c.index_head_dim) {
    usage(format("qk_rope_head_dim={} channels turn, index_head_dim={} has fewer", s.latent.rope,
                 c.index_head_dim));
  }
  if (c.stage != "sparse" && c.stage != "warmup")
    usage(format("stage={} is neither sparse nor warmup", c.stage));
  if (!(c.index_loss >= 0)) usage(format("index_loss={} is negative", c.index_loss));
  s.index_heads = c.index_n_heads;
  s.index_dim = c.index_head_dim;
  s.top = c.index_topk;
  s.index_interleaved = c.index_interleaved;
  s.warmup = c.stage == "warmup";
  return s;
}

Tensor detached(Tensor x) {
  if (x.defined()) x.set_slot(-1);
  return x;
}

class Dsa final : public LatentMixer {
 public:
  Dsa(DsaConfig config, const DsaShape& s, const LayerEnv& env, ParamBuilder& params)
      : LatentMixer(s.latent, env, params),
        config_(std::move(config)),
        shape_(s),
        rotation_{s.latent.theta, s.latent.rope, s.index_interleaved, 0, s.latent.scaling} {
    ParamBuilder own = params.scope("indexer");
    const int64_t in = s.latent.q_rank > 0 ? s.latent.q_rank : env.width;
    wq_ = &own.matrix("wq_b.weight", s.index_heads * s.index_dim, in, env.init_std);
    wk_ = &own.matrix("wk.weight", s.index_dim, env.width, env.init_std);
    k_norm_ = &own.vector("k_norm.weight", {s.index_dim}, Init::ones());
    k_norm_bias_ = &own.vector("k_norm.bias", {s.index_dim}, Init::zeros());
    weights_ = &own.gate_matrix("weights_proj.weight", s.index_heads, env.width, env.init_std);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx,
                                         const StateOptions& options) const override {
    std::vector<std::unique_ptr<LayerState>> members;
    members.push_back(
        std::make_unique<LatentKv>(ctx, shape_.latent.rank, shape_.latent.rope, options.kv));
    members.push_back(std::make_unique<LatentKv>(ctx, shape_.index_dim, 0));  // f32: scores choose
    return std::make_unique<GroupState>(std::move(members));
  }
  size_t state_bytes(int64_t tokens, const StateOptions& options) const override {
    return LatentKv::bytes_at(shape_.latent.rank, shape_.latent.rope, tokens, options.kv) +
           LatentKv::bytes_at(shape_.index_dim, 0, tokens);
  }
  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t tokens) const override {
    return DsaRef(shape_, reference_weights(params), params)(x, tokens);
  }

 private:
  struct Index {
    Tensor q, k, weights;  // [T, Hi, di], [T, di], [T, Hi] with all factors
  };

  // Nothing of the indexer's gradients goes on into the model.
  Index index(const Context& ctx, const Tensor& x, const Parts& parts, const Batch& batch) {
    const int64_t tokens = x.size(0), h = shape_.index_heads, d = shape_.index_dim;
    const Tensor in = detached(x), latent = detached(parts.query_latent);
    Index i;
    i.q = reshape(ctx, linear(ctx, latent.defined() ? latent : in, *wq_), {tokens, h, d});
    i.k = layer_norm(ctx, linear(ctx, in, *wk_), *k_norm_, *k_norm_bias_, kKeyNormEps);
    if (shape_.latent.rotate) {
      const Tensor table =
          rope_table(ctx, rotation_, batch.seq_starts, batch.offsets, batch.contexts);
      i.q = rope(ctx, rotation_, i.q, table);
      i.k =
          reshape(ctx, rope(ctx, rotation_, reshape(ctx, i.k, {tokens, 1, d}), table), {tokens, d});
    }
    i.weights = scale(ctx, linear(ctx, in, *weights_), 1.0f / std::sqrt(static_cast<float>(h * d)));
    return i;
  }

  Tensor attend(const Context& ctx, const Tensor& x, const Parts& parts, const Batch& batch,
                States states) override {
    const bool trains = ctx.tape != nullptr && config_.index_loss > 0;
    Context plain = ctx;
    plain.tape = nullptr;
    if (!states.empty()) return over_states(ctx, index(ctx, x, parts, batch), parts, batch, states);
    int64_t longest = 0;
    for (int64_t s = 0; s < batch.sequences(); ++s) longest = std::max(longest, batch.length(s));
    const bool dense = shape_.warmup || longest <= shape_.top;
    if (dense && !trains) return expanded(ctx, parts, batch);
    const Index i = index(trains ? ctx : plain, x, parts, batch);
    const auto chosen = std::make_shared<const KeySelection>(select(plain, i, batch));
    const auto [k, v] = expand(ctx, parts);
    const double factor = shape_.latent.scale;
    const Tensor o =
        dense ? attention(ctx, latent_config().expanded(), parts.q, k, v, batch.seq_starts)
              : selected_attention(ctx, parts.q, k, v, factor, chosen, batch.seq_starts);
    if (!trains) return o;
    return with_index_loss(
        ctx, o,
        {config_.index_loss, factor, detached(parts.q), detached(k), i.q, i.k, i.weights, chosen},
        batch.seq_starts);
  }

  // The most keys of a token of a sequence of n.
  int64_t kept_of(int64_t n) const { return shape_.warmup ? n : std::min(n, shape_.top); }

  // What every token of a batch without states attends to, as rows of the batch.
  KeySelection select(const Context& ctx, const Index& i, const Batch& batch) const {
    KeySelection all;
    all.starts.push_back(0);
    for (int64_t s = 0; s < batch.sequences(); ++s) {
      const int64_t first = batch.seq_starts[static_cast<size_t>(s)], n = batch.length(s);
      if (n == 0) continue;
      std::vector<Chosen> own(static_cast<size_t>(n));
      if (shape_.warmup || n <= shape_.top) {
        for (int64_t t = 0; t < n; ++t) {
          own[static_cast<size_t>(t)].resize(static_cast<size_t>(t) + 1);
          std::iota(own[static_cast<size_t>(t)].begin(), own[static_cast<size_t>(t)].end(), 0);
        }
      } else {
        const KeyPages keys(ctx, i.k.narrow(0, first, n));
        own = choose_keys(ctx, i.q.narrow(0, first, n), i.weights.narrow(0, first, n), keys.view(),
                          0, shape_.top);
      }
      for (int64_t t = 0; t < n && ctx.dry(); ++t) {  // as many as a run would choose
        own[static_cast<size_t>(t)].assign(static_cast<size_t>(std::min(t + 1, kept_of(n))), 0);
      }
      for (const Chosen& c : own) {
        for (const int32_t position : c) all.keys.push_back(static_cast<int32_t>(first) + position);
        all.starts.push_back(std::ssize(all.keys));
      }
    }
    return all;
  }

  Tensor over_states(const Context& ctx, const Index& i, const Parts& parts, const Batch& batch,
                     States states) const {
    const MlaShape& l = shape_.latent;
    Tensor out = Tensor::empty(ctx, {parts.q.size(0), l.heads, l.dv});
    const int64_t row = l.heads * l.dv;
    // Queries [from, from + count) of the batch, each part of `starts` over a view of its own.
    const auto run = [&](int64_t from, int64_t count, const std::vector<int64_t>& starts,
                         const std::vector<LatentView>& views) {
      const Tensor o = latent_attention(ctx, latent_config(), parts.q.narrow(0, from, count),
                                        kv_b(), starts, views);
      if (!ctx.dry()) std::copy_n(o.data(), count * row, out.data() + from * row);
    };
    for (size_t s = 0; s < states.size(); ++s) {
      auto& group = dynamic_cast<GroupState&>(*states[s]);
      auto& latents = dynamic_cast<LatentKv&>(group.member(0));
      auto& keys = dynamic_cast<LatentKv&>(group.member(1));
      append(ctx, parts, batch, static_cast<int64_t>(s), latents);
      const int64_t first = batch.seq_starts[s], n = batch.length(static_cast<int64_t>(s));
      keys.append(ctx, i.k.data() + first * shape_.index_dim, shape_.index_dim, nullptr, 0, n);
      const int64_t position = batch.offsets[s];
      // Who stands among the first index_topk sees everything before it.
      const int64_t dense = shape_.warmup ? n : std::clamp<int64_t>(shape_.top - position, 0, n);
      if (dense > 0) {
        LatentView before = latents.view();
        before.length = position + dense;
        run(first, dense, {0, dense}, {before});
      }
      for (int64_t at = dense; at < n; at += kGathered) {
        const int64_t count = std::min(kGathered, n - at);
        std::vector<Chosen> chosen(static_cast<size_t>(count));
        const Tensor q = i.q.narrow(0, first + at, count),
                     w = i.weights.narrow(0, first + at, count);
        chosen = choose_keys(ctx, q, w, keys.view(), position + at, shape_.top);
        std::vector<GatheredLatents> gathered;
        std::vector<LatentView> views;
        std::vector<int64_t> starts = {0};
        for (Chosen& c : chosen) {
          if (ctx.dry()) c.resize(static_cast<size_t>(shape_.top));  // counts what a run would hold
          gathered.emplace_back(ctx, latents.view(), c);
          starts.push_back(std::ssize(starts));
        }
        for (const GatheredLatents& g : gathered) views.push_back(g.view());
        run(first + at, count, starts, views);
      }
    }
    return out;
  }

  DsaConfig config_;
  DsaShape shape_;
  RopeConfig rotation_;
  Parameter *wq_, *wk_, *k_norm_, *k_norm_bias_, *weights_;
};

}  // namespace

std::unique_ptr<Layer> make_dsa(const Options& options, const LayerEnv& env, ParamBuilder& params) {
  auto config = read_options<DsaConfig>("dsa", options);
  const DsaShape shape = resolve(config, env);
  return std::make_unique<Dsa>(std::move(config), shape, env, params);
}

}  // namespace braid
