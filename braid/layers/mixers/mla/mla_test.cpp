#include <doctest/doctest.h>

#include "braid/layers/mixer.h"
#include "braid/testing/mixer_battery.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

std::string error(std::initializer_list<std::pair<const char*, const char*>> keys) {
  Context ctx;
  ParameterSet params;
  LayerEnv env;
  env.width = 32;
  env.head_dim = 8;
  Options options;
  for (const auto& [key, value] : keys) options.set(key, value);
  ParamBuilder builder(ctx, params, 3);
  try {
    find_mixer("mla")->make(options, env, builder);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kUsage);
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("mla") {
  for (const char* options :
       {"", "q_lora_rank=10,bias=true,kv_lora_rank=12,rope_scaling=yarn:4:16:32:1:true:1.1",
        "heads=2,qk_nope_head_dim=6,qk_rope_head_dim=3,v_head_dim=10,rope=false,kv_lora_rank=16",
        "heads=5,qk_nope_head_dim=4,interleaved=false,scale=0.3,latent_eps=1e-5"}) {
    for (const std::string& failure :
         testing::check_mixer("mla", {.options = options, .constant_state = false})) {
      FAIL_CHECK(failure);
    }
  }
}

TEST_CASE("mla over bf16 and q8 latents: near the reference, and states that are values") {
  for (const KvType type : {KvType::kBF16, KvType::kQ8}) {
    testing::MixerBattery battery{.options = "kv_lora_rank=40", .constant_state = false};
    battery.lengths = {1, 65, 300};
    battery.state.kv = type;
    battery.tolerance = type == KvType::kQ8 ? 3e-2 : 1e-2;
    for (const std::string& failure : testing::check_mixer("mla", battery)) FAIL_CHECK(failure);
  }
}

TEST_CASE("mla: errors name both values") {
  CHECK(error({{"qk_rope_head_dim", "3"}}).find("qk_rope_head_dim=3 is odd") != std::string::npos);
  CHECK(error({{"kv_lora_rank", "-1"}}) == "mla: kv_lora_rank=-1 is negative");
  CHECK(error({{"latent_eps", "0"}}) == "mla: latent_eps=0 is not positive");
  CHECK(error({{"scale", "-1"}}).find("scale=-1 is negative") != std::string::npos);
  CHECK(error({{"rope", "false"}, {"interleaved", "false"}}).find("rope=false") !=
        std::string::npos);
  CHECK(error({{"rope_scaling", "yarn"}}).find("mla: rope_scaling=yarn: yarn has 0 fields") == 0);
}

}  // namespace braid
