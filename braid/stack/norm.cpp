#include "braid/stack/norm.h"

#include "braid/ops/layer_norm.h"
#include "braid/ops/norm.h"

namespace braid {

Norm::Norm(const ModelSettings& settings, ParamBuilder& params, const std::string& name)
    : kind_(settings.norm), eps_(settings.norm_eps) {
  const Init init = kind_ == NormKind::kRms1p ? Init::zeros() : Init::ones();
  weight_ = &params.vector(name + ".weight", {settings.width}, init);
  if (kind_ == NormKind::kLayer) {
    bias_ = &params.vector(name + ".bias", {settings.width}, Init::zeros());
  }
}

Tensor Norm::operator()(const Context& ctx, const Tensor& x) const {
  if (!defined()) return x;
  if (kind_ == NormKind::kLayer) return layer_norm(ctx, x, *weight_, *bias_, eps_);
  return rms_norm(ctx, x, *weight_, eps_, kind_ == NormKind::kRms1p);
}

}  // namespace braid
