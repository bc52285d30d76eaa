// Two blocks of RWKV-7 in fla's names: time mix, then channel mix; the second mixes in v_first.

#include "braid/testing/golden_block.h"

namespace braid::testing {

TEST_CASE("golden: layer_rwkv7_x2") {
  constexpr double kOutput = 5e-6, kGradient = 5e-5;  // golden/ssm/README.md
  const std::vector<std::string> files = ssm_files("layer_rwkv7_x2");
  REQUIRE(!files.empty());
  for (const std::string& path : files) {
    INFO(path);
    const SafetensorsFile file = SafetensorsFile::open(path);
    std::vector<GoldenSub> subs;
    for (const std::string layer : {"model.layers.0.", "model.layers.1."}) {
      subs.push_back({"rwkv7",
                      golden_options({{"head_dim", file.metadata("head_dim")},
                                      {"decay_rank", file.metadata("decay_low_rank_dim")},
                                      {"a_rank", file.metadata("a_low_rank_dim")},
                                      {"v_rank", file.metadata("v_low_rank_dim")},
                                      {"g_rank", file.metadata("gate_low_rank_dim")},
                                      {"norm_eps", file.metadata("g_norm_eps")}}),
                      layer + "attn_norm", layer + "attn."});
      subs.push_back({"cmix", golden_options({{"ffn", file.metadata("intermediate_size")}}),
                      layer + "ffn_norm", layer + "ffn."});
    }
    GoldenBlock block(path, std::move(subs), "norm_eps", "model.layers.0.pre_norm");
    block.check_training(kOutput, kGradient);
    block.check_continuation(
        kOutput, [&](const GoldenBlock::States& states, const std::string& when) {
          for (size_t i = 0; i < states.size(); ++i) {
            const std::string at = when + std::to_string(i / 2) + ".";
            for (int64_t s = 0; s < block.sequences(); ++s) {
              LayerState& state = *states[i][static_cast<size_t>(s)];
              auto* group = dynamic_cast<GroupState*>(&state);
              const auto& row = dynamic_cast<const ConvState&>(group ? group->member(1) : state);
              const char* name = group ? "att_shift" : "ffn_shift";
              GoldenBlock::check(at + name, row.window(),
                                 block.file().tensor(at + name).narrow(0, s, 1), kOutput);
              if (group == nullptr) continue;
              const auto& wkv = dynamic_cast<const MatrixState&>(group->member(0));
              GoldenBlock::check(at + "wkv", wkv.matrix(),
                                 block.file().tensor(at + "wkv").select(0, s), kOutput);
            }
          }
        });
  }
}

}  // namespace braid::testing
