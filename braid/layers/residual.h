#pragma once
// Residual schemes: how sub-layer outputs become the next sub-layer's input.
// layers/residuals/<name>/.

#include <memory>
#include <span>
#include <vector>

#include "braid/layers/layer.h"

namespace braid {

// One forward pass through the depth of the model.
class ResidualRun {
 public:
  virtual ~ResidualRun() = default;
  // What sub-layer `index` (executed order, from 0) reads, before its norm. [T, width]
  virtual Tensor input(const Context& ctx, int64_t index) = 0;
  // What the norm before sub-layer `index` made of that; only asked for where takes_normed().
  virtual void normed(const Context&, int64_t /*index*/, const Tensor& /*n*/) {}
  // What sub-layer `index` wrote.
  virtual void output(const Context& ctx, int64_t index, Tensor y) = 0;
  // The read-out before the final norm.
  virtual Tensor finish(const Context& ctx) = 0;
};

// The same in double precision, straight from the scheme's equations. Values are [T, width].
class ReferenceRun {
 public:
  virtual ~ReferenceRun() = default;
  virtual std::vector<double> input(int64_t index) = 0;
  virtual void normed(int64_t /*index*/, const std::vector<double>& /*n*/) {}
  virtual void output(int64_t index, const std::vector<double>& y) = 0;
  virtual std::vector<double> finish() = 0;
};

class Residual {
 public:
  virtual ~Residual() = default;
  virtual std::unique_ptr<ResidualRun> begin(const Context& ctx, const Tensor& embedding) = 0;
  // The definition, for one fresh sequence; parameters by the names the scheme gave them.
  virtual std::unique_ptr<ReferenceRun> reference(const ReferenceParams& params,
                                                  std::vector<double> embedding) const = 0;
  virtual Options options() const = 0;
  // Whether the value after a sub-layer's first norm is part of the residual stream.
  virtual bool takes_normed() const { return false; }
};

struct ResidualType {
  const char* name;
  const char* summary;
  // `sublayers` = executed sub-layers of the stack, loops unrolled.
  std::unique_ptr<Residual> (*make)(const Options& options, const LayerEnv& env, int64_t sublayers,
                                    ParamBuilder& params);
};

std::span<const ResidualType> residual_types();
const ResidualType* find_residual(std::string_view name);  // null when unknown

}  // namespace braid
