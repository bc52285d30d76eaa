#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/layers/mixers/mamba3/mamba3_operands.h"
#include "braid/layers/mixers/mamba3/mamba3_ref.h"
#include "braid/layers/mixers/recurrent_mixer.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/norm.h"
#include "braid/ops/view.h"
#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"
#include "braid/state/matrix_state.h"

namespace braid {
namespace {

struct Mamba3Config {
  int64_t state = 128;    // N
  int64_t head_dim = 64;  // P
  int64_t heads = 0;      // 0: expand * width / head_dim
  int64_t groups = 1;     // of B and C
  int64_t expand = 2;
  double rope_fraction = 0.5;     // part of the states that turns
  std::string rate = "rational";  // of the decay: rational, softplus
  double rate_floor = 1e-4;
  bool out_norm = false;
  double norm_eps = 1e-5;
  void visit(OptionVisitor& v) {
    v.field("state", state, int64_t{128});
    v.field("head_dim", head_dim, int64_t{64});
    v.field("heads", heads, int64_t{0});
    v.field("groups", groups, int64_t{1});
    v.field("expand", expand, int64_t{2});
    v.field("rope_fraction", rope_fraction, 0.5);
    v.field("rate", rate, std::string("rational"));
    v.field("rate_floor", rate_floor, 1e-4);
    v.field("out_norm", out_norm, false);
    v.field("norm_eps", norm_eps, 1e-5);
  }
};

[[noreturn]] void usage(const std::string& message) {
  throw Error(ErrorKind::kUsage, "mamba3: " + message);
}

Mamba3Shape resolve(const Mamba3Config& c, const LayerEnv& env) {
  for (const auto& [key, value] : {std::pair("state", c.state),
                                   {"head_dim", c.head_dim},
                                   {"groups", c.groups},
                                   {"expand", c.expand}}) {
    if (value < 1) usage(format("{}={} is not positive", key, value));
  }
  const int64_t inner = c.expand * env.width;
  if (c.heads < 0) usage(format("heads={} is negative", c.heads));
  if (c.heads == 0 && inner % c.head_dim != 0) {
    usage(format("head_dim={} does not divide the {} inner channels", c.head_dim, inner));
  }
  Mamba3Shape s;
  s.width = env.width;
  s.sizes = {c.groups, c.heads > 0 ? c.heads : inner / c.head_dim, c.state, c.head_dim};
  if (s.sizes.value_heads % c.groups != 0)
    usage(format("groups={} does not divide heads={}", c.groups, s.sizes.value_heads));
  if (!(c.rope_fraction >= 0 && c.rope_fraction <= 1))
    usage(format("rope_fraction={} is not in [0, 1]", c.rope_fraction));
  s.pairs = static_cast<int64_t>(static_cast<double>(c.state) * c.rope_fraction) / 2;
  if (s.pairs == 0)
    usage(format("rope_fraction={} of state={} turns no pair", c.rope_fraction, c.state));
  if (c.rate != "rational" && c.rate != "softplus")
    usage(format("rate={} is neither rational nor softplus", c.rate));
  s.softplus_rate = c.rate == "softplus";
  if (!(c.rate_floor > 0)) usage(format("rate_floor={} is not positive", c.rate_floor));
  s.rate_floor = c.rate_floor;
  s.out_norm = c.out_norm;
  s.norm_eps = c.norm_eps;
  return s;
}

// What a sequence carries beside its matrix, in one row: the last key [H, N] and value [H, P], and
// the angles [H, S], each as the sum of two floats, so that steps lose nothing against one call.
struct Carried {
  int64_t heads, states, dim, pairs;
  int64_t keys() const { return heads * states; }
  int64_t values() const { return heads * dim; }
  int64_t angles() const { return heads * pairs; }
  int64_t count() const { return keys() + values() + 2 * angles(); }
};

class Mamba3 final : public Layer {
 public:
  Mamba3(Mamba3Config config, const Mamba3Shape& s, const LayerEnv& env, ParamBuilder& params)
      : config_(std::move(config)),
        shape_(s),
        carried_{s.sizes.value_heads, s.sizes.key_dim, s.sizes.value_dim, s.pairs} {
    const int64_t inner = s.sizes.values(), bc = s.sizes.keys(), heads = s.sizes.value_heads;
    in_proj_ = &params.matrix("in_proj.weight", 2 * inner + 2 * bc, s.width, env.init_std);
    in_proj_->row_splits = {inner, inner, bc, bc};
    dt_proj_ = &params.gate_matrix("in_proj_dt.weight", 3 * heads + s.pairs, s.width, env.init_std);
    dt_proj_->row_splits = {heads, heads, heads, s.pairs};
    dt_bias_ = &params.vector("dt_bias", {heads}, Init::dt_bias());
    b_norm_ = &params.vector("B_norm.weight", {s.sizes.key_dim}, Init::ones());
    c_norm_ = &params.vector("C_norm.weight", {s.sizes.key_dim}, Init::ones());
    b_bias_ = &params.vector("B_bias", {heads, s.sizes.key_dim}, Init::ones());
    c_bias_ = &params.vector("C_bias", {heads, s.sizes.key_dim}, Init::ones());
    skip_ = &params.vector("D", {heads}, Init::ones());
    if (s.out_norm) norm_ = &params.vector("norm.weight", {inner}, Init::ones());
    out_proj_ = &params.matrix("out_proj.weight", s.width, inner, env.out_init_std);
  }

  Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch, States states) override {
    const HeadSizes& n = shape_.sizes;
    const int64_t inner = n.values(), bc = n.keys(), heads = n.value_heads;
    const std::vector<Tensor> projected = linear_many(ctx, x, {{in_proj_, dt_proj_}});
    const std::vector<Tensor> in = split_columns(ctx, projected[0], {inner, inner, bc, bc});
    const std::vector<Tensor> small =
        split_columns(ctx, projected[1], {heads, heads, heads, shape_.pairs});
    const Mamba3Steps steps =
        mamba3_steps(ctx, small[0], small[1], *dt_bias_, shape_.softplus_rate, shape_.rate_floor);
    const Tensor v = as_heads(ctx, in[1], heads);
    Mamba3Inputs inputs;
    inputs.b = rms_norm(ctx, as_heads(ctx, in[2], n.heads), *b_norm_, shape_.norm_eps);
    inputs.c = rms_norm(ctx, as_heads(ctx, in[3], n.heads), *c_norm_, shape_.norm_eps);
    inputs.dt = steps.dt;
    inputs.trap = small[2];
    inputs.angles = small[3];
    std::vector<std::vector<double>> angles = load_angles(ctx, states);
    std::vector<double*> angle_rows;
    for (std::vector<double>& a : angles) angle_rows.push_back(a.data());
    const Mamba3Operands op =
        mamba3_operands(ctx, inputs, *c_bias_, *b_bias_, batch.seq_starts, angle_rows);
    std::vector<float*> matrices;
    for (size_t s = 0; s < states.size(); ++s) {
      matrices.push_back(matrix_of(*states[s]).matrix().data());
      if (!ctx.dry()) enter(op, static_cast<int64_t>(s), row_of(*states[s]), matrices.back());
    }
    RecurrenceInputs r;
    r.q = op.q;
    r.k = op.k;
    r.v = v;
    r.g = steps.adt;
    r.beta = op.write;
    const RecurrenceConfig config{.decay = RecurrenceConfig::Decay::kScalar,
                                  .erase = RecurrenceConfig::Erase::kNone};
    Tensor y = recurrence(ctx, config, r, batch.seq_starts, matrices);
    for (size_t s = 0; s < states.size(); ++s) {
      if (!ctx.dry()) leave(op, v, angles[s], batch, static_cast<int64_t>(s), row_of(*states[s]));
      matrix_of(*states[s]).advance(batch.length(static_cast<int64_t>(s)));
      carried_of(*states[s]).advance(batch.length(static_cast<int64_t>(s)));
    }
    y = mamba3_output(ctx, y, op, v, *skip_);
    if (norm_ != nullptr) y = rms_norm(ctx, y, *norm_, shape_.norm_eps);
    y = gated(ctx, in[0], reshape(ctx, y, {x.size(0), inner}));
    return linear(ctx, y, *out_proj_);
  }

  std::unique_ptr<LayerState> make_state(const Context& ctx, const StateOptions&) const override {
    const HeadSizes& n = shape_.sizes;
    std::vector<std::unique_ptr<LayerState>> members;
    members.push_back(std::make_unique<MatrixState>(ctx, n.value_heads, n.key_dim, n.value_dim));
    members.push_back(std::make_unique<ConvState>(ctx, 2, carried_.count()));
    return std::make_unique<GroupState>(std::move(members));
  }
  size_t state_bytes(int64_t, const StateOptions&) const override {
    const HeadSizes& n = shape_.sizes;
    return static_cast<size_t>(n.value_heads * n.key_dim * n.value_dim + carried_.count()) *
           sizeof(float);
  }
  Options options() const override { return write_options(config_); }

  std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                int64_t) const override {
    return mamba3_ref(shape_, params, x);
  }

 private:
  static MatrixState& matrix_of(LayerState& state) {
    return dynamic_cast<MatrixState&>(dynamic_cast<GroupState&>(state).member(0));
  }
  static ConvState& carried_of(LayerState& state) {
    return dynamic_cast<ConvState&>(dynamic_cast<GroupState&>(state).member(1));
  }
  static float* row_of(LayerState& state) { return carried_of(state).window().data(); }

  std::vector<std::vector<double>> load_angles(const Context& ctx, States states) const {
    std::vector<std::vector<double>> all;
    for (LayerState* state : states) {
      const float* row = row_of(*state) + carried_.keys() + carried_.values();
      std::vector<double> angles(static_cast<size_t>(carried_.angles()));
      for (int64_t i = 0; i < carried_.angles() && !ctx.dry(); ++i) {
        angles[static_cast<size_t>(i)] = double{row[i]} + row[carried_.angles() + i];
      }
      all.push_back(std::move(angles));
    }
    return all;
  }

  // The first token's step also writes the key and value before it.
  void enter(const Mamba3Operands& op, int64_t s, const float* row, float* matrix) const {
    const Carried& c = carried_;
    for (int64_t h = 0; h < c.heads; ++h) {
      const float gate = op.enter.data()[s * c.heads + h];
      const float *key = row + h * c.states, *value = row + c.keys() + h * c.dim;
      for (int64_t i = 0; i < c.states; ++i) {
        float* cells = matrix + (h * c.states + i) * c.dim;
        for (int64_t e = 0; e < c.dim; ++e) cells[e] += gate * key[i] * value[e];
      }
    }
  }

  void leave(const Mamba3Operands& op, const Tensor& v, const std::vector<double>& angles,
             const Batch& batch, int64_t s, float* row) const {
    const Carried& c = carried_;
    const int64_t last = batch.seq_starts[static_cast<size_t>(s) + 1] - 1;
    if (last < batch.seq_starts[static_cast<size_t>(s)]) return;
    std::copy_n(op.k.data() + last * c.keys(), c.keys(), row);
    std::copy_n(v.data() + last * v.stride(0), c.values(), row + c.keys());
    float* high = row + c.keys() + c.values();
    for (int64_t i = 0; i < c.angles(); ++i) {
      high[i] = static_cast<float>(angles[static_cast<size_t>(i)]);
      high[c.angles() + i] = static_cast<float>(angles[static_cast<size_t>(i)] - high[i]);
    }
  }

  Mamba3Config config_;
  Mamba3Shape shape_;
  Carried carried_;
  Parameter *in_proj_, *dt_proj_, *dt_bias_, *b_norm_, *c_norm_, *b_bias_, *c_bias_, *skip_;
  Parameter *norm_ = nullptr, *out_proj_;
};

}  // namespace

std::unique_ptr<Layer> make_mamba3(const Options& options, const LayerEnv& env,
                                   ParamBuilder& params) {
  auto config = read_options<Mamba3Config>("mamba3", options);
  const Mamba3Shape shape = resolve(config, env);
  return std::make_unique<Mamba3>(std::move(config), shape, env, params);
}

}  // namespace braid
