#include "braid/ops/parameter.h"

#include <cmath>
#include <cstring>

#include "braid/base/format.h"
#include "braid/base/rng.h"
#include "braid/core/parallel.h"

namespace braid {
namespace {

// Smaller matrices stay f32: they weigh nothing, and small layers suffer most.
constexpr int64_t kMinMatrix = 64;

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
    case Init::Kind::kLogOfColumn:
      return static_cast<float>(
          std::log(1.0 + static_cast<double>(i % static_cast<uint64_t>(init.a))));
    case Init::Kind::kValues:
      return init.list->at(i);
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

void set_f32(Parameter& p, Tensor value) {
  if (!(value.shape() == p.value.shape()) || value.dtype() != DType::kF32) {
    throw Error(ErrorKind::kBadInput,
                format("{} is {} {}, the model has f32 {}", p.name, dtype_name(value.dtype()),
                       value.shape().str(), p.value.shape().str()));
  }
  p.value = std::move(value);
  p.weight = nullptr;
}

std::string Init::str() const {
  switch (kind) {
    case Kind::kZeros:
      return "zeros";
    case Kind::kOnes:
      return "ones";
    case Kind::kNormal:
      return format("normal(0, {:g})", a);
    case Kind::kUniform:
      return format("uniform({:g}, {:g})", a, b);
    case Kind::kLogUniformOfUniform:
      return format("log of uniform({:g}, {:g})", a, b);
    case Kind::kDtBias:
      return format("inverse softplus of steps in [{:g}, {:g}]", a, b);
    case Kind::kLogOfColumn:
      return "log(1), log(2), ... along rows";
    case Kind::kValues:
      return "values of the layer";
  }
  return "";
}

void set_weight(Parameter& p, std::shared_ptr<const Weight> weight) {
  if (!(weight->shape() == p.value.shape())) {
    throw Error(ErrorKind::kBadInput, format("{} is {}, the model has {}", p.name,
                                             weight->shape().str(), p.value.shape().str()));
  }
  p.weight = std::move(weight);
}

WeightType weight_type_for(const Parameter& p, WeightType requested) {
  const Shape& s = p.value.shape();
  const bool matrix = p.role == ParamRole::kMatrix || p.role == ParamRole::kEmbedding;
  if (p.keep_f32 || !matrix || (s.rank() != 2 && s.rank() != 3)) return WeightType::kF32;
  if (requested == WeightType::kF32 || s[-2] < kMinMatrix || s[-1] < kMinMatrix) {
    return WeightType::kF32;
  }
  if (p.by_columns && is_quantised(requested)) return WeightType::kBF16;
  if (p.role == ParamRole::kEmbedding && is_quantised(requested)) requested = WeightType::kQ8;
  if (requested == WeightType::kQ4Min && s[-1] % weight_block(requested) != 0) {
    requested = WeightType::kQ4;
  }
  return s[-1] % weight_block(requested) == 0 ? requested : WeightType::kF32;
}

size_t bytes_as(const Parameter& p, WeightType type) {
  return type == WeightType::kF32 ? p.value.bytes()
                                  : static_cast<size_t>(weight_bytes(type, p.value.shape()));
}

WeightView weight_view(const Parameter& p, int64_t index) {
  if (p.weight) return p.weight->matrix(index);
  const int64_t rows = p.value.size(-2), cols = p.value.size(-1);
  return {WeightType::kF32,
          reinterpret_cast<const std::byte*>(p.value.data() + index * rows * cols), rows, cols};
}

Tensor dense_value(const Context& ctx, const Parameter& p) {
  if (!p.weight) return p.value;
  Tensor dense = Tensor::empty(ctx, p.value.shape());
  const int64_t cols = p.weight->cols();
  parallel_for(ctx, dense.count() / cols, 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) weight_row(*p.weight, i, dense.data() + i * cols);
  });
  return dense;
}

Parameter& ParameterSet::add(std::string name, ParamRole role, Tensor value) {
  // In builds with checks only: it looks at all names, which adds up to minutes in deep stacks.
  BRAID_DCHECK(find(name) == nullptr);
  Parameter& p = items_.emplace_back();
  p.name = std::move(name);
  p.role = role;
  p.value = std::move(value);
  p.keep_f32 = role == ParamRole::kVector || role == ParamRole::kBuffer;
  return p;
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

size_t ParameterSet::bytes() const {
  size_t n = 0;
  for (const Parameter& p : items_) n += p.bytes();
  return n;
}

void ParameterSet::allocate_grads(const Context& ctx) {
  for (Parameter& p : items_) {
    if (p.role != ParamRole::kBuffer && !p.frozen && !p.grad.defined())
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
  Parameter& p = set_.add(path, role, std::move(value));
  p.init = std::move(init);
  return p;
}

Parameter& ParamBuilder::matrix(const std::string& name, int64_t out, int64_t in, double std) {
  return add(name, ParamRole::kMatrix, {out, in}, Init::normal(std));
}

Parameter& ParamBuilder::gate_matrix(const std::string& name, int64_t out, int64_t in, double std) {
  Parameter& p = matrix(name, out, in, std);
  p.keep_f32 = true;
  return p;
}

Parameter& ParamBuilder::vector(const std::string& name, Shape shape, Init init) {
  return add(name, ParamRole::kVector, shape, init);
}

}  // namespace braid
