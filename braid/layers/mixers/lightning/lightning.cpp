#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/layers/mixers/lightning/lightning_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/view.h"

namespace braid {
namespace {

struct LightningConfig {
  int64_t heads = 0;
  int64_t head_dim = 0;
  int64_t layer = -1;      // which layer the slopes are of; -1 = by its place in the stack
  int64_t layers = 0;      // of how many; 0 = by the stack's depth
  double norm_eps = 1e-6;  // MiniMax's, whatever the model's own
  void visit(OptionVisitor& v) {
    v.field("heads", heads, int64_t{0});
    v.field("head_dim", head_dim, int64_t{0});
    v.field("layer", layer, int64_t{-1});
    v.field("layers", layers, int64_t{0});
    v.field("norm_eps", norm_eps, 1e-6);
  }
};

// MiniMax counts a mixer and its channel slot as one layer.
std::vector<double> slopes_of(const LightningConfig& c, int64_t heads, const LayerEnv& env) {
  const int64_t layers = c.layers > 0 ? c.layers : std::max<int64_t>(1, (env.depth + 1) / 2);
  const int64_t layer = c.layer >= 0 ? c.layer : std::min(env.layer_index / 2, layers - 1);
  if (layer >= layers || c.layer < -1 || c.layers < 0) {
    throw Error(ErrorKind::kUsage,
                format("lightning: layer={} must be one of the layers={}, from 0", layer, layers));
  }
  return lightning_slopes(heads, layer, layers);
}

class Lightning final : public RecurrentMixer {
 public:
  Lightning(const LightningConfig& config, const HeadSizes& n, const LayerEnv& env,
            ParamBuilder& params)
      : RecurrentMixer({n, 0, {}}),
        config_(config),
        width_(env.width),
        slopes_(slopes_of(config, n.heads, env)),
        qkv_proj_(params.matrix("qkv_proj.weight", 3 * n.keys(), env.width, env.init_std)),
        output_gate_(params.matrix("output_gate.weight", n.keys(), env.width, env.init_std)),
        norm_(params.vector("norm.weight", {n.keys()}, Init::ones())),
        out_proj_(params.matrix("out_proj.weight", env.width, n.keys(), env.out_init_std)) {
    inputs_ = {&qkv_proj_, &output_gate_};
    // q, k and v of every head are matrices of their own.
    qkv_proj_.row_splits.assign(static_cast<size_t>(3 * n.heads), n.key_dim);
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = sizes();
    const RecurrentStates kept(memory(), states);
    const std::vector<Tensor> in = linear_many(ctx, x, inputs_);
    const std::vector<Tensor> part = split_columns(ctx, as_heads(ctx, silu(ctx, in[0]), n.heads),
                                                   {n.key_dim, n.key_dim, n.key_dim});
    RecurrenceInputs r;
    r.q = part[0];
    r.k = part[1];
    r.v = part[2];
    r.g = constant_decays(ctx, slopes_);
    Tensor o = recurrence(ctx, lightning_recurrence(), r, batch.seq_starts, kept.matrices());
    kept.advance(batch);
    o = rms_norm(ctx, reshape(ctx, o, {x.size(0), n.keys()}), norm_, config_.norm_eps);
    return linear(ctx, sigmoid_mul(ctx, o, in[1]), out_proj_);
  }

  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return lightning_ref({sizes(), width_, false, 1, config_.norm_eps}, slopes_, params, x);
  }

 private:
  LightningConfig config_;
  int64_t width_;
  std::vector<double> slopes_;
  Parameter &qkv_proj_, &output_gate_, &norm_, &out_proj_;
  std::vector<Parameter*> inputs_;
};

}  // namespace

std::unique_ptr<Layer> make_lightning(const Options& options, const LayerEnv& env,
                                      ParamBuilder& params) {
  const auto config = read_options<LightningConfig>("lightning", options);
  const HeadOptions heads{config.heads, config.head_dim, 0, 0};
  return std::make_unique<Lightning>(config, resolve_heads("lightning", heads, env), env, params);
}

}  // namespace braid
