#include "braid/ops/parameter.h"

#include <cmath>
#include <cstring>

#include "braid/base/rng.h"
#include "braid/core/parallel.h"

namespace braid {
namespace {

float draw(const Init& init, const Rng& rng, uint64_t i) {
  switch (init.kind) {
    case Init::Kind::kZeros:
      return 0.0f;
    case Init::Kind::kOnes:
      return 1.0f;
    case Init::Kind::kNormal:
      return static_cast<float>(init.a * rng.normal(i));
    case Init::Kind::kUniform:
      return static_cast<float>(init.a + (init.b - init.a) * rng.uniform(i));
    case Init::Kind::kLogUniformOfUniform:
      return static_cast<float>(
          std::log(std::max(1e-4, init.a + (init.b - init.a) * rng.uniform(i))));
    case Init::Kind::kDtBias: {
      const double dt = std::max(
          1e-4,
          std::exp(std::log(init.a) + (std::log(init.b) - std::log(init.a)) * rng.uniform(i)));
      return static_cast<float>(dt + std::log(-std::expm1(-dt)));
    }
  }
  return 0.0f;
}

void fill(const Context& ctx, Tensor& t, const Init& init, const Rng& rng) {
  float* x = t.data();
  parallel_for(ctx, t.count(), 1 << 14, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x[i] = draw(init, rng, static_cast<uint64_t>(i));
  });
}

}  // namespace

Parameter& ParameterSet::add(std::string name, ParamRole role, Tensor value) {
  BRAID_CHECK(find(name) == nullptr);
  items_.push_back(Parameter{std::move(name), role, std::move(value), {}, {}});
  return items_.back();
}

Parameter* ParameterSet::find(const std::string& name) {
  for (Parameter& p : items_) {
    if (p.name == name) return &p;
  }
  return nullptr;
}

int64_t ParameterSet::trained_count() const {
  int64_t n = 0;
  for (const Parameter& p : items_) n += p.role == ParamRole::kBuffer ? 0 : p.value.count();
  return n;
}

void ParameterSet::allocate_grads(const Context& ctx) {
  for (Parameter& p : items_) {
    if (p.role != ParamRole::kBuffer && !p.grad.defined())
      p.grad = Tensor::zeros(ctx, p.value.shape());
  }
}

void ParameterSet::zero_grads(const Context& ctx) {
  if (ctx.dry()) return;
  for (Parameter& p : items_) {
    if (p.grad.defined()) std::memset(p.grad.data(), 0, p.grad.bytes());
  }
}

ParamBuilder::ParamBuilder(const Context& ctx, ParameterSet& set, uint64_t seed, std::string prefix)
    : ctx_(ctx), set_(set), seed_(seed), prefix_(std::move(prefix)) {}

ParamBuilder ParamBuilder::scope(const std::string& name) const {
  return ParamBuilder(ctx_, set_, seed_, prefix_ + name + ".");
}

Parameter& ParamBuilder::add(const std::string& name, ParamRole role, Shape shape, Init init) {
  const std::string path = prefix_ + name;
  Tensor value = Tensor::empty(ctx_, shape);
  fill(ctx_, value, init, Rng(seed_, "init/" + path));
  return set_.add(path, role, std::move(value));
}

Parameter& ParamBuilder::matrix(const std::string& name, int64_t out, int64_t in, double std) {
  return add(name, ParamRole::kMatrix, {out, in}, Init::normal(std));
}

Parameter& ParamBuilder::vector(const std::string& name, Shape shape, Init init) {
  return add(name, ParamRole::kVector, shape, init);
}

}  // namespace braid
