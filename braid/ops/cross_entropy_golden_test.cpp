// Every lm_loss file of $BRAID_GOLDEN/depth (README there): loss, its parts, gradients.

#include <doctest/doctest.h>

#include "braid/formats/safetensors.h"
#include "braid/ops/cross_entropy.h"
#include "braid/testing/golden.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::worst_error;

void run(const SafetensorsFile& file) {
  Context ctx;
  const auto check = [&](const char* name, const Tensor& got, double tolerance) {
    const double error = worst_error(got, file.to_f32(ctx, name));
    INFO(name, " differs by ", error, " of its largest value");
    CHECK(error <= tolerance);
  };
  const int64_t ignore = std::stoll(file.metadata("ignore"));
  std::vector<int32_t> targets;
  for (const int64_t y : file.to_i64("in.y")) {
    targets.push_back(y == ignore ? kIgnoreTarget : static_cast<int32_t>(y));
  }
  LossConfig config;
  config.softcap = std::stod(file.metadata("softcap"));
  config.z_coef = std::stod(file.metadata("z_coef"));
  Tensor h = file.to_f32(ctx, "in.h");
  Tensor weights = file.to_f32(ctx, "w.head");
  Tensor grad = Tensor::zeros(ctx, weights.shape());
  Parameter head{"head", ParamRole::kEmbedding, std::move(weights), std::move(grad), {}};
  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  tape.watch(h);
  const LossResult result = lm_loss(train, h, head, targets, config);
  check("out.loss", result.loss, 2e-6);
  const double ce = result.nll_sum / static_cast<double>(result.targets);
  check("out.ce", Tensor::full(ctx, {1}, static_cast<float>(ce)), 2e-6);
  // out.zloss is the mean of lse^2 itself: a loss with coefficient 1 less the cross-entropy.
  config.z_coef = 1;
  const float with_z = lm_loss(ctx, h, head, targets, config).loss.data()[0];
  check("out.zloss", Tensor::full(ctx, {1}, static_cast<float>(with_z - ce)), 2e-6);
  const std::vector<float> nll = lm_nll(ctx, h, head, targets, config.softcap);
  double sum = 0;
  for (const float v : nll) sum += v;
  CHECK(std::abs(sum - result.nll_sum) <= 1e-6 * sum);
  tape.backward(ctx, result.loss);
  check("grad.h", tape.grad(h), 2e-5);
  check("grad.head", head.grad, 2e-5);
}

}  // namespace

TEST_CASE("golden: language-model loss") {
  int ran = 0;
  for (const std::string& path : testing::golden_files("depth")) {
    const SafetensorsFile file = SafetensorsFile::open(path);
    if (file.metadata("kind") != "lm_loss") continue;
    INFO(path);
    run(file);
    ++ran;
  }
  MESSAGE(ran, " lm_loss files ran");
  CHECK(ran > 0);
}

}  // namespace braid
