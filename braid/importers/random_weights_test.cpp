#include "braid/importers/random_weights.h"

#include <doctest/doctest.h>

#include <cmath>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/formats/safetensors_folder.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

using testing::ScratchFolder;

// Mean and standard deviation of a tensor of a random checkpoint.
struct Written {
  explicit Written(const std::string& config) : scratch("random_weights") {
    const std::string from = scratch / "from";
    make_folders(from);
    write_file(join_path(from, "config.json"), config);
    const Context ctx;
    write_random_checkpoint(ctx, from, scratch / "to", "F32", 1, uint64_t{1} << 30);
    folder.emplace(SafetensorsFolder::open(scratch / "to"));
  }
  std::pair<double, double> spread(const char* name) const {
    const auto at = folder->at(name);
    const Context ctx;
    const Tensor t = at.file->to_f32(ctx, name);
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < t.count(); ++i) {
      const double x = static_cast<double>(t.data()[i]);
      sum += x;
      squares += x * x;
    }
    const double n = static_cast<double>(t.count()), mean = sum / n;
    return {mean, std::sqrt(squares / n - mean * mean)};
  }
  // The deviation of n numbers drawn with `want` is within 5 / sqrt(2 n) of it, nearly always.
  void check(const char* name, double want) const {
    CAPTURE(name);
    const double n = static_cast<double>(folder->at(name).entry->count());
    CHECK(std::fabs(spread(name).second / want - 1) < 5 / std::sqrt(2 * n));
  }
  ScratchFolder scratch;
  std::optional<SafetensorsFolder> folder;
};

constexpr const char* kLlama = R"("model_type":"llama","vocab_size":512,"hidden_size":64,
    "intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4)";

TEST_CASE("initializer_range is the width of random weights") {
  const Written w(std::string("{\"initializer_range\":0.05,") + kLlama + "}");
  w.check("model.embed_tokens.weight", 0.05);
  w.check("model.layers.1.self_attn.q_proj.weight", 0.05);
  w.check("model.layers.1.mlp.down_proj.weight", 0.05);
  w.check("model.norm.weight", 0.05);
  CHECK(std::fabs(w.spread("model.norm.weight").first - 1) < 0.05);
  const Written without(std::string("{") + kLlama + "}");
  without.check("model.layers.1.self_attn.q_proj.weight", 1.0 / 8);
  without.check("model.embed_tokens.weight", 1);
}

TEST_CASE("classes with rules of their own") {
  const Written mamba(R"({"model_type":"mamba2","vocab_size":256,"hidden_size":64,"num_heads":8,
      "head_dim":16,"state_size":16,"n_groups":1,"num_hidden_layers":4,"initializer_range":0.3,
      "rescale_prenorm_residual":true,"tie_word_embeddings":false})");
  mamba.check("backbone.embeddings.weight", 0.3);
  mamba.check("backbone.layers.0.mixer.in_proj.weight", 1.0 / 8);
  mamba.check("backbone.layers.0.mixer.out_proj.weight", 1 / std::sqrt(128.0) / 2);
  const Written gpt(R"({"model_type":"gpt2","vocab_size":256,"n_embd":64,"n_layer":2,"n_head":4,
      "n_positions":32,"initializer_range":0.02})");
  gpt.check("h.1.attn.c_attn.weight", 0.02);
  gpt.check("h.1.mlp.c_proj.weight", 0.01);
}

TEST_CASE("a range that is no positive number is an error") {
  for (const char* range : {"-0.02", "0", "\"a\"", "true"}) {
    std::string what;
    try {
      Written(std::string("{\"initializer_range\":") + range + "," + kLlama + "}");
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::kBadInput);
      what = e.what();
    }
    CHECK(what.find("config.json: initializer_range is") != what.npos);
  }
}

}  // namespace
}  // namespace braid
