// $BRAID_GOLDEN/ssm, files of kind mamba1_scan: outputs, final states and all gradients.

#include <doctest/doctest.h>

#include "braid/formats/safetensors.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/selective_scan.h"
#include "braid/testing/golden.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

constexpr double kOutput = 2e-6, kGradient = 1e-5;  // golden/ssm/README.md

void check(const std::string& name, const Tensor& got, const Tensor& want, double tolerance) {
  REQUIRE(got.count() == want.count());
  const double error = testing::worst_error(testing::values(got), testing::values(want));
  INFO(name, " differs by ", error, " of its largest value");
  CHECK(error <= tolerance);
}

// [B, D, N] <-> [B, N, D]
Tensor turned(const Context& ctx, const Tensor& x) {
  Tensor y = Tensor::empty(ctx, {x.size(0), x.size(2), x.size(1)});
  for (int64_t b = 0; b < x.size(0); ++b) {
    for (int64_t i = 0; i < x.size(1); ++i) {
      for (int64_t j = 0; j < x.size(2); ++j) {
        y.data()[(b * x.size(2) + j) * x.size(1) + i] =
            x.data()[(b * x.size(1) + i) * x.size(2) + j];
      }
    }
  }
  return y;
}

void run(const SafetensorsFile& file) {
  Context ctx;
  const auto given = [&](const std::string& name) { return file.to_f32(ctx, name); };
  const auto tokens = [&](const std::string& name) {
    const Tensor t = given(name);
    return t.reshape({t.size(0) * t.size(1), t.size(2)});
  };
  const auto parameter = [&](const std::string& name) {
    const Tensor value = given("in." + name);
    return Parameter{name, ParamRole::kVector, value, Tensor::zeros(ctx, value.shape()), {}};
  };
  Parameter a_log = parameter("A_log"), skip = parameter("D"), bias = parameter("dt_bias");
  const SelectiveScanParams params{&a_log, &skip, &bias};
  const SelectiveScanInputs in{tokens("in.x"), tokens("in.dt"), tokens("in.B"), tokens("in.C")};
  const int64_t sequences = given("in.x").size(0), length = given("in.x").size(1);
  std::vector<int64_t> starts;
  for (int64_t s = 0; s <= sequences; ++s) starts.push_back(s * length);
  const Tensor state = turned(ctx, given("in.h0"));
  std::vector<float*> states;
  for (int64_t s = 0; s < sequences; ++s) states.push_back(state.select(0, s).data());

  Tensor kept;
  Tensor scanned = selective_scan_forward(ctx, in, params, starts, states, &kept);
  check("y before the gate", scanned, given("aux.y_nogate"), kOutput);
  check("hT", turned(ctx, state), given("out.hT"), kOutput);

  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  Tensor z = tokens("in.z");
  tape.watch(z);
  tape.watch(scanned);
  const Tensor y = gated(train, z, scanned);
  check("y", y, given("out.y"), kOutput);
  tape.backward(ctx, y, tokens("up.y"));
  check("grad.z", tape.grad(z), given("grad.z"), kGradient);

  const SelectiveScanGrads g = selective_scan_backward(
      ctx, in, params, starts, kept, tape.grad(scanned), turned(ctx, given("up.hT")));
  check("grad.x", g.x, given("grad.x"), kGradient);
  check("grad.dt", g.raw, given("grad.dt"), kGradient);
  check("grad.B", g.b, given("grad.B"), kGradient);
  check("grad.C", g.c, given("grad.C"), kGradient);
  check("grad.h0", turned(ctx, g.initial_states), given("grad.h0"), kGradient);
  check("grad.A_log", a_log.grad, given("grad.A_log"), kGradient);
  check("grad.D", skip.grad, given("grad.D"), kGradient);
  check("grad.dt_bias", bias.grad, given("grad.dt_bias"), kGradient);
}

}  // namespace

TEST_CASE("golden: mamba1_scan") {
  int files = 0;
  for (const std::string& path : testing::golden_files("ssm")) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    if (file.metadata("kind") != "mamba1_scan") continue;
    INFO(path);
    run(file);
    ++files;
  }
  REQUIRE(files > 0);
}

}  // namespace braid
