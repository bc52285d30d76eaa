#pragma once
// Trained tensors and how a layer asks for them.

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "braid/core/tensor.h"
#include "braid/ops/weight.h"

namespace braid {

// What an optimizer and a checkpoint need to know of a parameter.
enum class ParamRole {
  kMatrix,     // hidden 2-D weight [out, in]: Muon, weight decay
  kEmbedding,  // token table or untied head: AdamW
  kVector,     // gains, biases, convolutions, gate and decay parameters, queries: AdamW, no weight
               // decay
  kBuffer,     // saved but not trained by gradient (a router's balance bias)
};

// How a fresh parameter is filled; every element is a function of (seed, name, index) alone.
struct Init {
  enum class Kind {
    kZeros,
    kOnes,
    kNormal,
    kUniform,
    kLogUniformOfUniform,
    kDtBias,
    kLogOfColumn,
    kValues
  } kind = Kind::kZeros;
  double a = 0;  // kNormal: std; kUniform: low; kLogUniformOfUniform: log of U(a, b); kDtBias: dt
                 // in [a, b]; kLogOfColumn: columns of the matrix
  double b = 0;
  std::shared_ptr<const std::vector<float>> list = nullptr;  // kValues: one per element
  static Init zeros() { return {}; }
  static Init ones() { return {Kind::kOnes, 0, 0, nullptr}; }
  static Init normal(double std) { return {Kind::kNormal, std, 0, nullptr}; }
  static Init uniform(double low, double high) { return {Kind::kUniform, low, high, nullptr}; }
  // A_log = log A with A ~ U(low, high)  (fla GDN, KDA)
  static Init log_of_uniform(double low, double high) {
    return {Kind::kLogUniformOfUniform, low, high, nullptr};
  }
  // A_log = log(1), log(2), ... along each row of `columns` (Mamba's S4D-real)
  static Init log_of_column(int64_t columns) {
    return {Kind::kLogOfColumn, static_cast<double>(columns), 0, nullptr};
  }
  static Init values(std::vector<float> list) {
    return {Kind::kValues, 0, 0, std::make_shared<const std::vector<float>>(std::move(list))};
  }
  // Inverse softplus of dt, dt log-uniform in [low, high]  (fla GDN, KDA; Mamba)
  static Init dt_bias(double low = 1e-3, double high = 0.1) {
    return {Kind::kDtBias, low, high, nullptr};
  }
  std::string str() const;  // "normal(0, 0.02)"
};

struct Parameter {
  std::string name;  // path in the parameter tree: "layers.3.mixer.q_proj.weight"
  ParamRole role = ParamRole::kMatrix;
  Tensor value;
  Tensor grad;  // f32, same shape; undefined until training allocates it. Backward ADDS to it.
  // Rows of `value` that are separate logical matrices to Muon (fused q, k, v or experts); empty =
  // one.
  std::vector<int64_t> row_splits;
  // Set when the parameter was loaded to be read only, in another form than f32: then this holds
  // its numbers, and `value` nothing but the shape.
  std::shared_ptr<const Weight> weight = nullptr;
  // Keeps its bits in training: it has no gradient, and neither optimizer nor layer changes it.
  bool frozen = false;
  // Never anything but f32: gates, decays, norms, convolutions, routers (DESIGN section 5.7).
  bool keep_f32 = false;
  // Read by its columns as well, where blocks along the rows would have to be taken apart: bf16 at
  // least (the up-projection of latents).
  bool by_columns = false;
  Init init = {};  // how a fresh one is filled

  const Shape& shape() const { return value.shape(); }
  size_t bytes() const { return weight ? weight->bytes().bytes() : value.bytes(); }
};

// Gives a parameter its value, f32 and of its shape: the tensor itself, not a copy. Throws
// Error(kBadInput) for another shape.
void set_f32(Parameter& p, Tensor value);
void set_weight(Parameter& p, std::shared_ptr<const Weight> weight);

// The type to keep a parameter in when `requested` is asked for: f32 for what stays f32 (keep_f32,
// vectors, small matrices, column counts the type has no blocks for), q8 for token tables and heads
// when q4 is asked for.
WeightType weight_type_for(const Parameter& p, WeightType requested);

// Bytes of a parameter's numbers when they are kept in that type.
size_t bytes_as(const Parameter& p, WeightType type);

// A parameter as a product reads it; `index` is the expert of an [E, R, C] one.
WeightView weight_view(const Parameter& p, int64_t index = 0);
// The numbers in f32: `value` itself, or a fresh tensor when they are kept in another type.
Tensor dense_value(const Context& ctx, const Parameter& p);

// All parameters of a model in the order they were made. Addresses are stable.
class ParameterSet {
 public:
  ParameterSet() = default;
  ParameterSet(ParameterSet&&) = default;
  ParameterSet& operator=(ParameterSet&&) = default;
  Parameter& add(std::string name, ParamRole role, Tensor value);
  Parameter* find(const std::string& name);
  auto begin() { return items_.begin(); }
  auto end() { return items_.end(); }
  auto begin() const { return items_.begin(); }
  auto end() const { return items_.end(); }
  size_t size() const { return items_.size(); }
  int64_t trained_count() const;            // elements, buffers left out
  size_t bytes() const;                     // of all values, in the types they are kept in
  void allocate_grads(const Context& ctx);  // zeroed; of frozen ones none
  void zero_grads(const Context& ctx);

 private:
  std::deque<Parameter> items_;
};

// Hands a layer its parameters under a path prefix. Layers keep the returned references.
class ParamBuilder {
 public:
  ParamBuilder(const Context& ctx, ParameterSet& set, uint64_t seed, std::string prefix = "");
  ParamBuilder scope(const std::string& name) const;  // prefix + name + "."
  // A linear weight [out, in]; default init N(0, 0.02) is replaced by `std` when given.
  Parameter& matrix(const std::string& name, int64_t out, int64_t in, double std = 0.02);
  // The same for a projection that makes decays, write strengths, low-rank gates or router scores:
  // kept in f32 whatever type the others are loaded in.
  Parameter& gate_matrix(const std::string& name, int64_t out, int64_t in, double std = 0.02);
  Parameter& vector(const std::string& name, Shape shape, Init init);
  Parameter& add(const std::string& name, ParamRole role, Shape shape, Init init);
  const Context& context() const { return ctx_; }

 private:
  const Context& ctx_;
  ParameterSet& set_;
  uint64_t seed_;
  std::string prefix_;
};

}  // namespace braid
