// $BRAID_GOLDEN/ssm, files of kind mamba3_siso: outputs, what is carried on, and all gradients,
// those of what was carried in included.

#include <numbers>

#include "braid/layers/mixers/mamba3/mamba3_operands.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/recurrence.h"
#include "braid/testing/golden_block.h"

namespace braid::testing {
namespace {

constexpr double kOutput = 1e-5, kGradient = 3e-5;  // golden/ssm/README.md

struct Golden {
  explicit Golden(const std::string& path) : file(SafetensorsFile::open(path)) {}
  Tensor given(const std::string& name) const { return file.to_f32(ctx, name); }
  // [B, T, ...] -> [B * T, ...]
  Tensor tokens(const std::string& name) const {
    const Tensor t = given(name);
    return t.rank() == 3 ? t.reshape({t.size(0) * t.size(1), t.size(2)})
                         : t.reshape({t.size(0) * t.size(1), t.size(2), t.size(3)});
  }
  Parameter parameter(const std::string& name) const {
    const Tensor value = given("in." + name);
    return {name, ParamRole::kVector, value, Tensor::zeros(ctx, value.shape()), {}};
  }
  void check(const std::string& name, const Tensor& got, double tolerance) const {
    const double error = worst_error(values(got), values(given(name)));
    INFO(name, " differs by ", error, " of its largest value");
    CHECK(error <= tolerance);
  }

  Context ctx;
  SafetensorsFile file;
};

// [B, H, P, N] <-> [B, H, N, P]
Tensor turned(const Context& ctx, const Tensor& x) {
  Tensor y = Tensor::empty(ctx, {x.size(0), x.size(1), x.size(3), x.size(2)});
  const int64_t rows = x.size(2), cols = x.size(3);
  for (int64_t m = 0; m < x.size(0) * x.size(1); ++m) {
    for (int64_t i = 0; i < rows * cols; ++i)
      y.data()[m * rows * cols + i % cols * rows + i / cols] = x.data()[m * rows * cols + i];
  }
  return y;
}

// Adds `more` [B, H, n], the gradient of what the last token carries on, to d [B * T, H, n].
void add_last(const Tensor& more, const Tensor& d) {
  const int64_t row = more.size(1) * more.size(2), length = d.size(0) / more.size(0);
  for (int64_t s = 0; s < more.size(0); ++s) {
    for (int64_t i = 0; i < row; ++i)
      d.data()[((s + 1) * length - 1) * row + i] += more.data()[s * row + i];
  }
}

void run(const Golden& g) {
  const Context& ctx = g.ctx;
  Parameter q_bias = g.parameter("q_bias"), k_bias = g.parameter("k_bias"), skip = g.parameter("D");
  const Mamba3Inputs in{g.tokens("in.q"), g.tokens("in.k"), g.tokens("in.dt"), g.tokens("in.trap"),
                        g.tokens("in.angles")};
  Tensor v = g.tokens("in.v"), z = g.tokens("in.z");
  const Tensor h0 = g.given("in.h0"), k0 = g.given("in.k0"), v0 = g.given("in.v0");
  const int64_t sequences = h0.size(0), heads = h0.size(1), dim = h0.size(2), n = h0.size(3);
  std::vector<int64_t> starts;
  for (int64_t s = 0; s <= sequences; ++s) starts.push_back(s * (v.size(0) / sequences));
  std::vector<std::vector<double>> angles;
  std::vector<double*> angle_rows;
  for (int64_t s = 0; s < sequences; ++s)
    angles.push_back(values(g.given("in.angle0").select(0, s)));
  for (auto& a : angles) angle_rows.push_back(a.data());
  Mamba3Operands op = mamba3_operands_forward(ctx, in, q_bias, k_bias, starts, angle_rows);

  const Tensor state = turned(ctx, h0);
  std::vector<float*> states;
  for (int64_t m = 0; m < sequences * heads; ++m) {
    for (int64_t i = 0; i < n * dim; ++i) {
      state.data()[m * n * dim + i] +=
          op.enter.data()[m] * k0.data()[m * n + i / dim] * v0.data()[m * dim + i % dim];
    }
  }
  for (int64_t s = 0; s < sequences; ++s) states.push_back(state.select(0, s).data());
  const RecurrenceConfig config{.decay = RecurrenceConfig::Decay::kScalar,
                                .erase = RecurrenceConfig::Erase::kNone};
  RecurrenceInputs r;
  r.q = op.q;
  r.k = op.k;
  r.v = v;
  r.g = g.tokens("in.adt");
  r.beta = op.write;
  RecurrenceSaved saved;
  Tensor o = recurrence_forward(ctx, config, r, starts, states, &saved);
  g.check("out.hT", turned(ctx, state), kOutput);

  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  for (Tensor* x : {&o, &op.q, &op.k, &op.ahead, &v, &z}) tape.watch(*x);
  const Tensor y = gated(train, z, mamba3_output(train, o, op, v, skip));
  g.check("out.y", y, kOutput);
  tape.backward(ctx, y, g.tokens("up.y"));
  g.check("grad.z", tape.grad(z), kGradient);
  g.check("grad.D", skip.grad, kGradient);
  const RecurrenceGrads back = recurrence_backward(ctx, config, r, starts, saved, tape.grad(o),
                                                   turned(ctx, g.given("up.hT")));
  g.check("grad.adt", back.g, kGradient);
  const Tensor dq = add(ctx, tape.grad(op.q), back.q), dk = add(ctx, tape.grad(op.k), back.k),
               dv = add(ctx, tape.grad(v), back.v);
  add_last(g.given("up.kT"), dk);
  add_last(g.given("up.vT"), dv);
  g.check("grad.v", dv, kGradient);

  // Through the first token's step, which writes what was carried in.
  const Tensor& into = back.initial_states;
  g.check("grad.h0", turned(ctx, into), kGradient);
  const Tensor dk0 = Tensor::zeros(ctx, k0.shape()), dv0 = Tensor::zeros(ctx, v0.shape());
  const Tensor d_enter = Tensor::zeros(ctx, op.enter.shape());
  for (int64_t m = 0; m < sequences * heads; ++m) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t e = 0; e < dim; ++e) {
        const float up = into.data()[(m * n + i) * dim + e], gate = op.enter.data()[m];
        const float key = k0.data()[m * n + i], value = v0.data()[m * dim + e];
        dk0.data()[m * n + i] += gate * up * value;
        dv0.data()[m * dim + e] += gate * up * key;
        d_enter.data()[m] += up * key * value;
      }
    }
  }
  g.check("grad.k0", dk0, kGradient);
  g.check("grad.v0", dv0, kGradient);
  const Mamba3Grads d =
      mamba3_operands_backward(ctx, in, q_bias, k_bias, starts, op,
                               {dq, dk, back.beta, tape.grad(op.ahead), d_enter, {}, {}});
  g.check("grad.q", d.c, kGradient);
  g.check("grad.k", d.b, kGradient);
  g.check("grad.q_bias", q_bias.grad, kGradient);
  g.check("grad.k_bias", k_bias.grad, kGradient);
  g.check("grad.dt", d.dt, kGradient);
  g.check("grad.trap", d.trap, kGradient);
  g.check("grad.angles", d.angles, kGradient);
  g.check("grad.angle0", d.angles0, kGradient);

  // What is carried on.
  const int64_t length = starts[1];
  for (int64_t s = 0; s < sequences; ++s) {
    const int64_t last = (s + 1) * length - 1;
    CHECK(worst_error(op.k.select(0, last), g.given("out.kT").select(0, s)) <= kOutput);
    CHECK(worst_error(v.select(0, last), g.given("out.vT").select(0, s)) <= kOutput);
    const std::vector<double> want = values(g.given("aux.angleT").select(0, s));
    for (size_t i = 0; i < want.size(); ++i) {
      const double apart = angles[static_cast<size_t>(s)][i] - want[i];
      CHECK(std::abs(std::remainder(apart, 2 * std::numbers::pi)) <= kOutput);
    }
  }
}

}  // namespace

TEST_CASE("golden: mamba3_siso") {
  const std::vector<std::string> files = ssm_files("mamba3_siso");
  REQUIRE(!files.empty());
  for (const std::string& path : files) {
    INFO(path);
    run(Golden(path));
  }
}

}  // namespace braid::testing
