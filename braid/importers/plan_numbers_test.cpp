// What follows from a config.json alone, against numbers that others published
// (tests/golden/configs).

#include <doctest/doctest.h>

#include <cmath>

#include "braid/base/format.h"
#include "braid/importers/load.h"
#include "braid/testing/golden.h"

namespace braid::testing {
namespace {

struct Published {
  std::unique_ptr<Model> model;

  explicit Published(const std::string& name) {
    Context dry;
    dry.arena = Arena::create(Arena::Mode::kDry);
    const std::string path = golden_path("configs/" + name + ".json");
    model = std::make_unique<Model>(dry, read_config(load_config(path), path).model.settings,
                                    Model::Fill::kDeferred);
  }
  // Bytes that one more token adds, in 16 bits.
  double kv_bytes() const {
    constexpr int64_t kNear = int64_t{1} << 20;
    return static_cast<double>(model->state_bytes(2 * kNear) - model->state_bytes(kNear)) /
           static_cast<double>(kNear) / 2;
  }
  double kv_bytes(std::string_view mixer) const {
    double sum = 0;
    constexpr int64_t kNear = int64_t{1} << 20;
    for (const Model::SubLayer& l : model->sublayers()) {
      if (l.name != mixer) continue;
      sum += static_cast<double>(l.layer->state_bytes(2 * kNear) - l.layer->state_bytes(kNear)) /
             static_cast<double>(kNear) / 2;
    }
    return sum;
  }
  int64_t layers() const { return static_cast<int64_t>(model->sublayers().size()) / 2; }
  int64_t count(std::string_view mixer) const {
    int64_t n = 0;
    for (const Model::SubLayer& l : model->sublayers()) n += l.name == mixer ? 1 : 0;
    return n;
  }
  int64_t parameters() const {
    int64_t n = 0;
    for (const Parameter& p : model->parameters()) n += p.value.count();
    return n;
  }
};

TEST_CASE("Llama 3 70B keeps 327,680 bytes a token, 320 GiB at 2^20") {
  const Published llama("llama_3_70b");
  CHECK(llama.kv_bytes() == 327680);
  CHECK(llama.kv_bytes() * 0x1p20 == 320 * 0x1p30);
  CHECK(llama.parameters() == 70553706496);
}

TEST_CASE("Qwen3-Next keeps 10.67 times less than Qwen3 32B") {
  const Published dense("qwen3_32b"), hybrid("qwen3_next_80b");
  CHECK(dense.kv_bytes() / hybrid.kv_bytes() == doctest::Approx(32.0 / 3).epsilon(1e-6));
  CHECK(dense.parameters() == 32762123264);
  CHECK(hybrid.parameters() == doctest::Approx(79.7e9).epsilon(0.005));
  CHECK(hybrid.count("gqa") == 12);
}

TEST_CASE("Kimi Linear keeps 74.07 percent less than if all layers were latent attention") {
  const Published kimi("kimi_linear_48b");
  const double all = kimi.kv_bytes("mla") / static_cast<double>(kimi.count("mla")) *
                     static_cast<double>(kimi.layers());
  CHECK(1 - kimi.kv_bytes() / all == doctest::Approx(20.0 / 27).epsilon(1e-6));
  CHECK(kimi.kv_bytes() == 7 * 576 * 2);
  CHECK(kimi.parameters() == doctest::Approx(49.1e9).epsilon(0.005));
}

TEST_CASE("MiniMax-Text-01 keeps 87.5 percent less than if all layers were softmax attention") {
  const Published minimax("minimax_text_01");
  const double all = minimax.kv_bytes("gqa") / static_cast<double>(minimax.count("gqa")) *
                     static_cast<double>(minimax.layers());
  CHECK(1 - minimax.kv_bytes() / all == doctest::Approx(0.875).epsilon(1e-6));
  CHECK(minimax.parameters() == doctest::Approx(456e9).epsilon(0.002));
}

TEST_CASE("DeepSeek V3 keeps 70,272 bytes a token and has 671 billion parameters") {
  const Published deepseek("deepseek_v3");
  CHECK(deepseek.kv_bytes() == 70272);
  CHECK(deepseek.parameters() == 671026419200);
}

TEST_CASE("DeepSeek V3.2 is V3 with an indexer in every layer, GLM-5 has 744 billion parameters") {
  const Published deepseek("deepseek_v32"), dense("deepseek_v3");
  // wq_b, wk, the norm of k with its bias, weights_proj.
  const int64_t indexer = 64 * 128 * 1536 + 128 * 7168 + 2 * 128 + 64 * 7168;
  CHECK(deepseek.parameters() == dense.parameters() + 61 * indexer);
  CHECK(deepseek.count("dsa") == 61);
  CHECK(Published("glm_5").parameters() == doctest::Approx(744e9).epsilon(0.005));
}

TEST_CASE("Mamba 130M and 2.8B have as many parameters as their makers count, in both forms") {
  const Published small("mamba_130m"), large("mamba_2_8b");
  CHECK(small.parameters() == 129135360);
  CHECK(large.parameters() == 2768345600);
  CHECK(large.kv_bytes() == 0);
  // h [5120, 16] and three inputs of the convolution, f32, in 64 layers.
  CHECK(large.model->state_bytes(1 << 20) == 64 * 5120 * (16 + 3) * 4);
}

TEST_CASE("Mamba-2 130M and 2.7B have as many parameters as their makers count, in both forms") {
  const Published small("mamba2_130m"), large("mamba2_2_7b");
  CHECK(small.parameters() == 128989632);
  CHECK(large.parameters() == 2702599680);
  CHECK(large.kv_bytes() == 0);
  // S [80, 128, 64] and three inputs of the convolution, f32, in 64 layers.
  CHECK(large.model->state_bytes(1 << 20) == 64 * (80 * 128 * 64 + 3 * (5120 + 2 * 128)) * 4);
}

TEST_CASE("Falcon-Mamba has 7.27, Jamba 51.6 billion parameters") {
  CHECK(Published("falcon_mamba_7b").parameters() == doctest::Approx(7.27e9).epsilon(0.001));
  const Published jamba("jamba_v0_1");
  CHECK(jamba.parameters() == doctest::Approx(51.6e9).epsilon(0.001));
  CHECK(jamba.count("gqa") == 4);
  CHECK(jamba.count("moe") == 16);
}

TEST_CASE("LFM2 350M has 354,483,968 parameters and keeps 12 KiB a token") {
  const Published lfm2("lfm2_350m");
  CHECK(lfm2.parameters() == 354483968);
  CHECK(lfm2.count("shortconv") == 10);
  CHECK(lfm2.kv_bytes() == 6 * 2 * 8 * 64 * 2);
}

TEST_CASE("Bamba has 9.78, Granite 4.0 H Tiny 6.94 billion parameters") {
  const Published bamba("bamba_9b"), granite("granite_4_h_tiny");
  CHECK(bamba.parameters() == doctest::Approx(9.78e9).epsilon(0.001));
  CHECK(bamba.count("gqa") == 3);
  CHECK(granite.parameters() == doctest::Approx(6.94e9).epsilon(0.001));
  CHECK(granite.count("mamba2") == 36);
  CHECK(granite.kv_bytes() == 4 * 2 * 4 * 128 * 2);
}

TEST_CASE("Nemotron Nano 9B v2 has 8.89 billion parameters in 27, 25 and 4 layers") {
  const Published nano("nemotron_nano_9b_v2");
  CHECK(nano.parameters() == doctest::Approx(8.89e9).epsilon(0.0005));
  CHECK(nano.count("mamba2") == 27);
  CHECK(nano.count("mlp") == 25);
  CHECK(nano.count("gqa") == 4);
  CHECK(nano.kv_bytes() == 4 * 2 * 8 * 128 * 2);
}

TEST_CASE("Nemotron 3 Nano has 31.6 billion parameters, 3.6 of them for a token") {
  const Published nano("nemotron_3_nano_30b_a3b");
  CHECK(nano.parameters() == doctest::Approx(31.6e9).epsilon(0.001));
  int64_t idle = 0;
  for (const Model::SubLayer& l : nano.model->sublayers()) idle += l.layer->idle_parameters();
  CHECK(nano.parameters() - idle == doctest::Approx(3.6e9).epsilon(0.01));
  CHECK(nano.count("mamba2") == 23);
  CHECK(nano.count("moe") == 23);
  CHECK(nano.count("gqa") == 6);
}

TEST_CASE("Falcon-H1 0.5B has 521 million parameters") {
  const Published falcon("falcon_h1_0_5b");
  // A layer: q, k, v and o; in_proj, the convolution with its bias, dt_bias, A_log and D, out_proj;
  // the feed-forward layer; two norms. Embedding and head are two matrices.
  const int64_t layer = 1024 * (512 + 128 + 128 + 512) + 1024 * (2 * 1536 + 2 * 128 + 24) +
                        5 * (1536 + 2 * 128) + 3 * 24 + 1536 * 1024 + 3 * 1024 * 2048 + 2 * 1024;
  CHECK(falcon.parameters() == 36 * layer + 2 * 32784 * 1024 + 1024);
  CHECK(falcon.parameters() == doctest::Approx(521e6).epsilon(0.001));
  CHECK(falcon.count("gqa+mamba2") == 36);
  CHECK(falcon.kv_bytes() == 36 * 2 * 2 * 64 * 2);
}

TEST_CASE("Hymba 1.5B has 1.52 billion parameters and keeps keys and values of three layers") {
  const Published hymba("hymba_1_5b");
  const int64_t d = 1600, inner = 2 * d, rank = 100, n = 16;
  // All layers have the scan, out_proj, two norms over inner, the feed-forward layer and two norms;
  // q and x with its gate; 17 of 32 have k and v of 5 heads besides.
  const int64_t scan =
      5 * inner + (rank + 2 * n) * inner + (rank + 1) * inner + inner * n + inner + rank + 2 * n;
  const int64_t layer = scan + d * inner + 2 * inner + 3 * d * 5504 + 2 * d + (d + 2 * inner) * d;
  CHECK(hymba.parameters() == 32 * layer + 17 * 5 * (64 + 128) * d + 32001 * d + 128 * d + d);
  CHECK(hymba.parameters() == doctest::Approx(1.52e9).epsilon(0.003));
  CHECK(hymba.kv_bytes() == 3 * 5 * (64 + 128) * 2);
}

TEST_CASE("RWKV-7 0.1B has 191,034,624 parameters and a state of 2.4 MB") {
  const Published rwkv("rwkv7_0_1b");
  CHECK(rwkv.parameters() == 191034624);
  CHECK(rwkv.kv_bytes() == 0);
  // S [12, 64, 64] and the last rows of both mixes, f32, in 12 layers.
  CHECK(rwkv.model->state_bytes(1 << 20) == 12 * (12 * 64 * 64 + 2 * 768) * 4);
}

TEST_CASE("Phi-4-mini-flash has 3.85 billion parameters and one layer of keys and values") {
  const Published phi("phi4_mini_flash");
  CHECK(phi.parameters() == doctest::Approx(3.85e9).epsilon(0.005));
  CHECK(phi.kv_bytes() == 2 * 20 * 64 * 2);
  CHECK(phi.count("mamba") == 9);
  CHECK(phi.count("diff") == 16);
  CHECK(phi.count("gmu") == 7);
}

}  // namespace
}  // namespace braid::testing
