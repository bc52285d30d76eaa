#include "braid/layers/mixers/attention_heads.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/layers/mixer.h"

namespace braid {
namespace {

std::string error_of(const char* mixer, const Options& options) {
  ParameterSet params;
  const Context ctx;
  ParamBuilder builder(ctx, params, 1);
  LayerEnv env;
  env.width = 32;
  env.heads = 4;
  env.head_dim = 8;
  try {
    find_mixer(mixer)->make(options, env, builder);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kUsage);
    return e.what();
  }
  return "no error";
}

}  // namespace

TEST_CASE("softmax attention: heads and positions that do not fit are refused, with both values") {
  const std::pair<std::vector<std::pair<const char*, const char*>>, const char*> cases[] = {
      {{{"kv_heads", "3"}}, "heads=4 is not a multiple of kv_heads=3"},
      {{{"kv_heads", "-1"}}, "heads=4 is not a multiple of kv_heads=-1"},
      {{{"heads", "-2"}}, "heads=-2 is not positive"},
      {{{"rope", "true"}, {"rope_theta", "0"}}, "rope_theta=0 is not positive"},
      {{{"rope", "false"}, {"rope_theta", "5"}}, "rope_theta=5 says how positions turn"},
      {{{"rope", "true"}, {"heads", "4"}, {"head_dim", "5"}}, "5"}};
  for (const char* mixer : {"gqa", "fox", "diff", "moba", "nsa"}) {
    for (const auto& [pairs, message] : cases) {
      Options options;
      for (const auto& [key, value] : pairs) options.set(key, value);
      const std::string error = error_of(mixer, options);
      CAPTURE(error);
      CHECK(error.starts_with(std::string(mixer) + ": "));
      CHECK(error.find(message) != std::string::npos);
    }
  }
}

TEST_CASE("softmax attention: defaults come from the model") {
  LayerEnv env;
  env.width = 32;
  env.heads = 4;
  env.head_dim = 8;
  const AttentionHeads all = AttentionHeads{}.resolved("x", env);
  CHECK(all.heads == 4);
  CHECK(all.kv_heads == 4);
  CHECK(all.head_dim == 8);
  const AttentionHeads shared = AttentionHeads{.heads = 8, .kv_heads = 2}.resolved("x", env);
  CHECK(shared.head_dim == 4);
  CHECK(shared.kv_heads == 2);
}

}  // namespace braid
