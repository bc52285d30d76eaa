// Blocks of Mamba (x + mixer(norm x)) and Jamba (the same, then a swiglu).

#include "braid/testing/golden_block.h"

namespace braid::testing {
namespace {

constexpr double kOutput = 5e-6, kGradient = 5e-5;  // golden/ssm/README.md

// The file's state.ssm [B, D, N]; ours [1, N, D].
void check_states(const GoldenBlock& block, const GoldenBlock::States& states,
                  const std::string& when) {
  const Tensor ssm = block.file().tensor(when + "ssm");
  for (int64_t s = 0; s < block.sequences(); ++s) {
    auto& group = dynamic_cast<GroupState&>(*states[0][static_cast<size_t>(s)]);
    const Tensor h = dynamic_cast<const MatrixState&>(group.member(0)).matrix();
    std::vector<double> want;
    for (int64_t n = 0; n < ssm.size(2); ++n) {
      for (int64_t d = 0; d < ssm.size(1); ++d)
        want.push_back(ssm.data()[(s * ssm.size(1) + d) * ssm.size(2) + n]);
    }
    INFO(when, "ssm");
    CHECK(worst_error(h, want) <= kOutput);
    GoldenBlock::check_window(dynamic_cast<const ConvState&>(group.member(1)).window(),
                              block.file().tensor(when + "conv"), s, kOutput);
  }
}

void check_block(GoldenBlock& block) {
  block.check_training(kOutput, kGradient);
  block.check_continuation(kOutput,
                           [&](const GoldenBlock::States& states, const std::string& when) {
                             check_states(block, states, when);
                           });
}

}  // namespace

TEST_CASE("golden: layer_mamba1") {
  const std::vector<std::string> files = ssm_files("layer_mamba1");
  REQUIRE(!files.empty());
  for (const std::string& path : files) {
    INFO(path);
    const SafetensorsFile file = SafetensorsFile::open(path);
    GoldenBlock block(path,
                      {{"mamba",
                        golden_options({{"state", file.metadata("state_size")},
                                        {"conv", file.metadata("conv_kernel")},
                                        {"inner", file.metadata("intermediate_size")},
                                        {"dt_rank", file.metadata("time_step_rank")}}),
                        "backbone.layers.0.norm", "backbone.layers.0.mixer."}},
                      "layer_norm_epsilon");
    check_block(block);
  }
}

TEST_CASE("golden: layer_jamba_mamba") {
  const std::vector<std::string> files = ssm_files("layer_jamba_mamba");
  REQUIRE(!files.empty());
  for (const std::string& path : files) {
    INFO(path);
    const SafetensorsFile file = SafetensorsFile::open(path);
    const std::string at = "model.layers.0.";
    GoldenBlock block(path,
                      {{"mamba",
                        golden_options({{"state", file.metadata("mamba_d_state")},
                                        {"conv", file.metadata("mamba_d_conv")},
                                        {"expand", file.metadata("mamba_expand")},
                                        {"dt_rank", file.metadata("mamba_dt_rank")},
                                        {"norms", "true"}}),
                        at + "input_layernorm", at + "mamba."},
                       {"swiglu", golden_options({{"ffn", file.metadata("intermediate_size")}}),
                        at + "pre_ff_layernorm", at + "feed_forward."}},
                      "rms_norm_eps");
    check_block(block);
  }
}

}  // namespace braid::testing
