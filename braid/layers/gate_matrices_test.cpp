// Which projections stay f32 whatever type the weights are loaded in (DESIGN section 5.7).

#include <doctest/doctest.h>

#include "braid/layers/channel.h"
#include "braid/layers/mixer.h"

namespace braid {

TEST_CASE("projections of decays, write strengths, low-rank gates and routers stay f32") {
  const std::map<std::string, std::string> gates = {
      {"gdn", "in_proj_b.weight in_proj_a.weight "},
      {"kda", "f_a_proj.weight f_b_proj.weight b_proj.weight g_a_proj.weight g_b_proj.weight "},
      {"gdn2",
       "f_proj.0.weight b_proj.weight w_proj.weight g_proj.0.weight f_proj.1.weight "
       "g_proj.1.weight "},
      {"comba", "a_proj.weight b_proj.weight "},
      {"gla", "gk_proj.1.weight gk_proj.0.weight "},
      {"deltanet", "b_proj.weight "},
      {"deltaproduct", "b_proj.weight a_proj.weight "},
      {"moe", "gate.weight "},
  };
  Context ctx;
  LayerEnv env;
  env.width = 128;
  for (const auto& types : {mixer_types(), channel_types()}) {
    for (const LayerType& type : types) {
      CAPTURE(type.name);
      ParameterSet set;
      ParamBuilder params(ctx, set, 0);
      type.make({}, env, params);
      std::string names;
      for (const Parameter& p : set) {
        if (p.role == ParamRole::kMatrix && p.keep_f32) names += p.name + " ";
        if (p.role == ParamRole::kVector) CHECK(p.keep_f32);
      }
      const auto known = gates.find(type.name);
      CHECK(names == (known == gates.end() ? "" : known->second));
    }
  }
}

}  // namespace braid
