// Mamba-2's block, x + mixer(norm x), with its three gated norms.

#include "braid/testing/golden_block.h"

namespace braid::testing {

namespace {

// The file's in_proj holds the rows of dt below the others.
Tensor in_proj(const GoldenLayer& file, const std::string& at, const std::string& own) {
  if (own != "in_proj.weight" && own != "in_proj_dt.weight") return {};
  const Tensor all = file.tensor(at + "in_proj.weight");
  const int64_t heads = file.integer("num_heads"), rest = all.size(0) - heads;
  return own == "in_proj.weight" ? all.narrow(0, 0, rest) : all.narrow(0, rest, heads);
}

}  // namespace

TEST_CASE("golden: layer_mamba2") {
  constexpr double kOutput = 5e-6, kGradient = 5e-5;  // golden/ssm/README.md
  const std::vector<std::string> files = ssm_files("layer_mamba2");
  REQUIRE(!files.empty());
  for (const std::string& path : files) {
    INFO(path);
    const SafetensorsFile file = SafetensorsFile::open(path);
    GoldenBlock block(path,
                      {{"mamba2",
                        golden_options({{"state", file.metadata("state_size")},
                                        {"heads", file.metadata("num_heads")},
                                        {"head_dim", file.metadata("head_dim")},
                                        {"groups", file.metadata("n_groups")},
                                        {"norm_groups", file.metadata("gated_norm_groups")},
                                        {"conv", file.metadata("conv_kernel")}}),
                        "backbone.layers.0.norm",
                        "backbone.layers.0.mixer.",
                        {},
                        in_proj}},
                      "layer_norm_epsilon");
    block.check_training(kOutput, kGradient);
    block.check_continuation(
        kOutput, [&](const GoldenBlock::States& states, const std::string& when) {
          const Tensor ssm = block.file().tensor(when + "ssm");  // [B, H, P, N]; ours [H, N, P]
          for (int64_t s = 0; s < block.sequences(); ++s) {
            auto& group = dynamic_cast<GroupState&>(*states[0][static_cast<size_t>(s)]);
            const Tensor h = dynamic_cast<const MatrixState&>(group.member(0)).matrix();
            const int64_t heads = ssm.size(1), p = ssm.size(2), n = ssm.size(3);
            std::vector<double> want;
            for (int64_t i = 0; i < heads * n * p; ++i) {
              const int64_t head = i / (n * p), row = i / p % n, column = i % p;
              want.push_back(ssm.data()[((s * heads + head) * p + column) * n + row]);
            }
            INFO(when, "ssm");
            CHECK(worst_error(h, want) <= kOutput);
            GoldenBlock::check_window(dynamic_cast<const ConvState&>(group.member(1)).window(),
                                      block.file().tensor(when + "conv"), s, kOutput);
          }
        });
  }
}

}  // namespace braid::testing
