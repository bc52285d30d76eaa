#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/layers/mixer.h"
#include "braid/testing/mixer_battery.h"

namespace braid {
namespace {

std::vector<std::string> check(const std::string& options, KvType kv = KvType::kF32,
                               double tolerance = 1e-5) {
  return testing::check_mixer("nsa", {.options = options,
                                      .f32_matrices = "g_proj.weight ",
                                      .constant_state = false,
                                      .state = {kv},
                                      .tolerance = tolerance});
}

}  // namespace

TEST_CASE("nsa") {
  for (const char* options :
       {"block=8,top_n=4,window=12,compress_block=4,compress_stride=2",
        "block=6,top_n=5,window=3,kv_heads=1,rope=false,compress_block=6,compress_stride=3,"
        "compress_hidden=5",
        "block=64,top_n=4,window=20,heads=2,head_dim=6",
        "block=8,top_n=4,window=12,compress=mean,compress_block=8,compress_stride=8",
        "block=12,top_n=3,window=70,kv_heads=1,compress=mean,compress_block=8,compress_stride=4"}) {
    for (const std::string& failure : check(options)) FAIL_CHECK(failure);
  }
}

// Blocks are chosen by keys before they are rounded, so that the choice is that of f32.
TEST_CASE("nsa keeps keys and values in bf16 and q8") {
  for (const KvType type : {KvType::kBF16, KvType::kQ8}) {
    for (const std::string& failure :
         check("block=8,top_n=4,window=12,compress_block=4,compress_stride=2", type,
               type == KvType::kQ8 ? 3e-2 : 1e-2)) {
      FAIL_CHECK(failure);
    }
  }
}

TEST_CASE("nsa refuses blocks that do not fit each other") {
  const auto error = [](const char* key, const char* value) -> std::string {
    ParameterSet params;
    const Context ctx;
    ParamBuilder builder(ctx, params, 1);
    LayerEnv env;
    env.width = 32;
    env.head_dim = 8;
    Options options;
    options.set(key, value);
    try {
      find_mixer("nsa")->make(options, env, builder);
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::kUsage);
      return e.what();
    }
    return "no error";
  };
  CHECK(error("top_n", "2").find("top_n=2 is fewer than the 3 blocks") != std::string::npos);
  CHECK(error("top_n", "3") == "no error");
  CHECK(error("compress_stride", "12")
            .find("compress_block=32 is not a multiple of "
                  "compress_stride=12") != std::string::npos);
  CHECK(error("block", "40").find("block=40 is not a multiple of compress_stride=16") !=
        std::string::npos);
  CHECK(error("block", "16").find("compress_block=32 is more than block=16") != std::string::npos);
  CHECK(error("compress", "conv").find("neither mlp nor mean") != std::string::npos);
  CHECK(error("window", "2000000000").find("at most 16777216") != std::string::npos);
  CHECK(error("top_n", "-4").find("top_n=-4 is not positive") != std::string::npos);
  CHECK(error("window", "0").find("window=0") != std::string::npos);
}

}  // namespace braid
