// Which projections stay f32 whatever type the weights are loaded in (DESIGN section 5.7).

#include <doctest/doctest.h>

#include "braid/layers/channel.h"

namespace braid {

// Mixers say so to their battery (testing/mixer_battery.h).
TEST_CASE("routers stay f32") {
  Context ctx;
  LayerEnv env;
  env.width = 128;
  for (const LayerType& type : channel_types()) {
    CAPTURE(type.name);
    ParameterSet set;
    ParamBuilder params(ctx, set, 0);
    type.make({}, env, params);
    for (const Parameter& p : set) {
      if (p.role == ParamRole::kMatrix) CHECK(p.keep_f32 == (p.name == "gate.weight"));
      if (p.role == ParamRole::kVector) CHECK(p.keep_f32);
    }
  }
}

}  // namespace braid
