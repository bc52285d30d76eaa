#pragma once
// The norm of a model, of whichever kind it is, with its parameters.

#include <string>

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"
#include "braid/stack/settings.h"

namespace braid {

class Norm {
 public:
  Norm() = default;  // none: leaves x as it is
  // Adds `name`.weight [width], and `name`.bias [width] for a layer_norm.
  Norm(const ModelSettings& settings, ParamBuilder& params, const std::string& name);

  bool defined() const { return weight_ != nullptr; }
  // x [T, width] -> [T, width]
  Tensor operator()(const Context& ctx, const Tensor& x) const;

 private:
  NormKind kind_ = NormKind::kRms;
  double eps_ = 0;
  Parameter* weight_ = nullptr;
  Parameter* bias_ = nullptr;
};

}  // namespace braid
