// $BRAID_GOLDEN/ssm, files of kind mamba2_ssd: Mamba-2's recurrence as ops, its outputs, final
// states and all gradients.

#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "braid/formats/safetensors.h"
#include "braid/ops/add_scaled.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/recurrence.h"
#include "braid/ops/time_step.h"
#include "braid/testing/golden.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

constexpr double kOutput = 2e-6, kGradient = 1e-5;  // golden/ssm/README.md

// [B, H, P, N] <-> [B, H, N, P]
Tensor turned(const Context& ctx, const Tensor& x) {
  Tensor y = Tensor::empty(ctx, {x.size(0), x.size(1), x.size(3), x.size(2)});
  const int64_t rows = x.size(2), cols = x.size(3), one = rows * cols;
  for (int64_t i = 0; i < x.count(); ++i)
    y.data()[i / one * one + i % cols * rows + i % one / cols] = x.data()[i];
  return y;
}

void run(const SafetensorsFile& file) {
  Context ctx;
  const auto given = [&](const std::string& name) { return file.to_f32(ctx, name); };
  const auto tokens = [&](const std::string& name) {
    const Tensor t = given(name);
    const int64_t rows = t.size(0) * t.size(1);
    return t.rank() == 3 ? t.reshape({rows, t.size(2)}) : t.reshape({rows, t.size(2), t.size(3)});
  };
  const auto check = [&](const std::string& name, const Tensor& got, double tolerance) {
    const double error = testing::worst_error(testing::values(got), testing::values(given(name)));
    INFO(name, " differs by ", error, " of its largest value");
    CHECK(error <= tolerance);
  };
  const auto parameter = [&](const std::string& name) {
    const Tensor value = given("in." + name);
    return Parameter{name, ParamRole::kVector, value, Tensor::zeros(ctx, value.shape()), {}};
  };
  Parameter a_log = parameter("A_log"), bias = parameter("dt_bias"), skip = parameter("D");
  Tensor x = tokens("in.x"), dt = tokens("in.dt");
  const Tensor state = turned(ctx, given("in.h0"));
  std::vector<int64_t> starts;
  std::vector<float*> states;
  for (int64_t s = 0; s <= state.size(0); ++s) starts.push_back(s * x.size(0) / state.size(0));
  for (int64_t s = 0; s < state.size(0); ++s) states.push_back(state.select(0, s).data());

  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  for (Tensor* t : {&x, &dt}) tape.watch(*t);
  const TimeSteps steps = time_steps(train, dt, a_log, bias, std::stod(file.metadata("dt_min")),
                                     std::stod(file.metadata("dt_max")));
  RecurrenceInputs r;
  r.q = tokens("in.C");
  r.k = tokens("in.B");
  r.v = x;
  r.g = steps.g;
  r.beta = steps.dt;
  const RecurrenceConfig config{.decay = RecurrenceConfig::Decay::kScalar,
                                .erase = RecurrenceConfig::Erase::kNone};
  RecurrenceSaved saved;
  Tensor o = recurrence_forward(ctx, config, r, starts, states, &saved);
  tape.watch(o);
  const Tensor y = add_scaled(train, o, x, skip);
  check("out.y", y, kOutput);
  check("out.hT", turned(ctx, state), kOutput);

  const Tensor up = tokens("up.y");
  const RecurrenceGrads g =
      recurrence_backward(ctx, config, r, starts, saved, up, turned(ctx, given("up.hT")));
  const Tensor outputs[] = {y, steps.dt, steps.g};
  const Tensor seeds[] = {up, g.beta, g.g};
  tape.backward_many(ctx, outputs, seeds);
  check("grad.x", add(ctx, tape.grad(x), g.v), kGradient);
  check("grad.dt", tape.grad(dt), kGradient);
  check("grad.B", g.k, kGradient);
  check("grad.C", g.q, kGradient);
  check("grad.h0", turned(ctx, g.initial_states), kGradient);
  check("grad.A_log", a_log.grad, kGradient);
  check("grad.dt_bias", bias.grad, kGradient);
  check("grad.D", skip.grad, kGradient);
}

}  // namespace

TEST_CASE("golden: mamba2_ssd") {
  int files = 0;
  for (const std::string& path : testing::golden_files("ssm")) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    if (file.metadata("kind") != "mamba2_ssd") continue;
    INFO(path);
    run(file);
    ++files;
  }
  REQUIRE(files > 0);
}

}  // namespace braid
