#include <vector>

#include "braid/layers/residual.h"

namespace braid {

#define BRAID_RESIDUAL(name, summary)                                                       \
  std::unique_ptr<Residual> make_##name(const Options&, const LayerEnv&, int64_t sublayers, \
                                        ParamBuilder&);
#include "braid/layers/residuals/list.inc"
#undef BRAID_RESIDUAL

std::span<const ResidualType> residual_types() {
  static const std::vector<ResidualType> types = {
#define BRAID_RESIDUAL(name, summary) {#name, summary, make_##name},
#include "braid/layers/residuals/list.inc"
#undef BRAID_RESIDUAL
  };
  return types;
}

const ResidualType* find_residual(std::string_view name) {
  for (const ResidualType& t : residual_types()) {
    if (name == t.name) return &t;
  }
  return nullptr;
}

}  // namespace braid
