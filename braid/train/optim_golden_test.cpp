// muon_* of $BRAID_GOLDEN/depth, through the direction function and through the whole optimizer.

#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <string>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/train/optim.h"

namespace braid {
namespace {

std::string golden_folder() {
  for (const char* name : {"BRAID_GOLDEN", "BRAID_DEFAULT_GOLDEN"}) {
    if (const char* value = std::getenv(name)) return join_path(value, "depth");
  }
  return "tests/golden/depth";
}

// max |a - b| / max |b|
double worst(const float* a, const float* b, int64_t n) {
  double difference = 0, size = 0;
  for (int64_t i = 0; i < n; ++i) {
    difference = std::max(difference, std::fabs(static_cast<double>(a[i]) - b[i]));
    size = std::max(size, std::fabs(static_cast<double>(b[i])));
    if (std::isnan(a[i])) return INFINITY;
  }
  return difference / size;
}

MuonVariant variant_of(const std::string& name) {
  if (name == "keller") return MuonVariant::kKeller;
  if (name == "moonlight") return MuonVariant::kMoonlight;
  if (name == "nanochat") return MuonVariant::kNanochat;
  throw Error(ErrorKind::kBadInput, "unknown muon variant " + name);
}

// Tolerances of the golden folder's README: update 1e-4, weight 1e-5; momentum is a forward value.
void run_muon(const SafetensorsFile& file) {
  const Context ctx;
  const int64_t rows = std::stoll(file.metadata("m")), cols = std::stoll(file.metadata("n"));
  const int64_t steps = std::stoll(file.metadata("steps")), n = rows * cols;
  OptimConfig config;
  config.muon.variant = variant_of(file.metadata("variant"));
  config.muon.beta = std::stod(file.metadata("beta"));
  if (file.metadata().count("beta2") > 0) config.muon.beta2 = std::stod(file.metadata("beta2"));
  config.lr = std::stod(file.metadata("lr"));
  config.weight_decay = std::stod(file.metadata("wd"));
  config.clip_norm = 0;
  ParameterSet set;
  Parameter& p = set.add("w", ParamRole::kMatrix, file.to_f32(ctx, "in.weight"));
  set.allocate_grads(ctx);
  Optimizer optimizer(ctx, set, config);
  Tensor momentum = Tensor::zeros(ctx, {rows, cols}), weight = Tensor::zeros(ctx, {rows, cols});
  Tensor second = Tensor::zeros(ctx, {std::max(rows, cols)});
  const Tensor scratch = Tensor::empty(ctx, {muon_scratch_floats(rows, cols)});
  const Tensor grads = file.tensor("in.grad"), updates = file.tensor("out.update");
  const Tensor weights = file.tensor("out.weight"), momenta = file.tensor("out.momentum");
  for (int64_t t = 0; t < steps; ++t) {
    CAPTURE(t);
    const MuonMatrix m{rows,         cols, weight.data(), grads.data() + t * n, momentum.data(),
                       second.data()};
    const float* o = muon_direction(ctx, m, config.muon, 1.0f, scratch.data());
    CHECK(worst(o, updates.data() + t * n, n) <= 1e-4);
    CHECK(worst(momentum.data(), momenta.data() + t * n, n) <= 2e-6);
    if (file.find("out.second_moment") != nullptr) {
      const int64_t k = std::max(rows, cols);
      CHECK(worst(second.data(), file.tensor("out.second_moment").data() + t * k, k) <= 2e-4);
    }
    std::memcpy(p.grad.data(), grads.data() + t * n, p.grad.bytes());
    CHECK(optimizer.step(ctx, 1.0).applied);
    CHECK(worst(p.value.data(), weights.data() + t * n, n) <= 1e-5);
  }
}

TEST_CASE("golden: muon") {
  const std::string folder = golden_folder();
  int ran = 0;
  for (const std::string& name : list_folder(folder)) {
    if (!name.ends_with(".safetensors")) continue;
    const SafetensorsFile file = SafetensorsFile::open(join_path(folder, name));
    if (file.metadata("kind") != "muon") continue;
    CAPTURE(name);
    CHECK_NOTHROW(run_muon(file));
    ++ran;
  }
  CHECK(ran > 0);
}

}  // namespace
}  // namespace braid
