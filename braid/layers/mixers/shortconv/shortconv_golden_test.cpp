// LFM2's block: x + conv(operator_norm x).

#include "braid/testing/golden_block.h"

namespace braid::testing {

TEST_CASE("golden: layer_lfm2_shortconv") {
  const std::vector<std::string> files = ssm_files("layer_lfm2_shortconv");
  REQUIRE(!files.empty());
  for (const std::string& path : files) {
    INFO(path);
    const SafetensorsFile file = SafetensorsFile::open(path);
    const std::string at = "model.layers.0.";
    GoldenBlock block(path,
                      {{"shortconv", golden_options({{"conv", file.metadata("conv_L_cache")}}),
                        at + "operator_norm", at + "conv."}},
                      "norm_eps");
    block.check_training(5e-6, 5e-5);
    block.check_continuation(5e-6, [&](const GoldenBlock::States& states, const std::string& when) {
      for (int64_t s = 0; s < block.sequences(); ++s) {
        const auto& window = dynamic_cast<const ConvState&>(*states[0][static_cast<size_t>(s)]);
        GoldenBlock::check_window(window.window(), block.file().tensor(when + "conv"), s, 5e-6);
      }
    });
  }
}

}  // namespace braid::testing
