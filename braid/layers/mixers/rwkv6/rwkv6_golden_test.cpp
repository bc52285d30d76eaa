// A block of RWKV-6 in BlinkDL's names, whose low-rank weights stand [in, out].

#include "braid/testing/golden_block.h"

namespace braid::testing {
namespace {

// Rows and columns of the i-th matrix of x [..., rows, cols] exchanged.
Tensor transposed(const Context& ctx, const Tensor& x, int64_t i = 0) {
  const int64_t rows = x.size(-2), cols = x.size(-1);
  Tensor y = Tensor::empty(ctx, {cols, rows});
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) y.data()[c * rows + r] = x.data()[(i * rows + r) * cols + c];
  }
  return y;
}

Tensor low_rank(const GoldenLayer& file, const std::string& at, const std::string& own) {
  const auto turned = [&](const char* name) {
    return transposed(file.ctx(), file.tensor(at + name));
  };
  if (own == "x_lora.0.weight") return turned("time_maa_w1");
  if (own == "w_lora.lora.0.weight") return turned("time_decay_w1");
  if (own == "w_lora.lora.2.weight") return turned("time_decay_w2");
  const std::string order = "wkvrg", start = "x_lora.2.";
  if (!own.starts_with(start)) return {};
  return transposed(file.ctx(), file.tensor(at + "time_maa_w2"),
                    static_cast<int64_t>(order.find(own[start.size()])));
}

}  // namespace

TEST_CASE("golden: layer_rwkv6") {
  constexpr double kOutput = 5e-6, kGradient = 5e-5;  // golden/ssm/README.md
  const std::vector<std::string> files = ssm_files("layer_rwkv6");
  REQUIRE(!files.empty());
  for (const std::string& path : files) {
    INFO(path);
    const SafetensorsFile file = SafetensorsFile::open(path);
    const std::string at = "blocks.0.";
    const int64_t mix = file.find(at + "att.time_maa_w2")->shape[1];
    const int64_t decay = file.find(at + "att.time_decay_w1")->shape[1];
    const std::map<std::string, std::string> names = {{"x_x", "time_maa_x"},
                                                      {"x_w", "time_maa_w"},
                                                      {"x_k", "time_maa_k"},
                                                      {"x_v", "time_maa_v"},
                                                      {"x_r", "time_maa_r"},
                                                      {"x_g", "time_maa_g"},
                                                      {"bonus", "time_faaaa"},
                                                      {"w_lora.lora.2.bias", "time_decay"},
                                                      {"r_proj.weight", "receptance.weight"},
                                                      {"k_proj.weight", "key.weight"},
                                                      {"v_proj.weight", "value.weight"},
                                                      {"g_proj.weight", "gate.weight"},
                                                      {"o_proj.weight", "output.weight"},
                                                      {"g_norm.weight", "ln_x.weight"},
                                                      {"g_norm.bias", "ln_x.bias"}};
    GoldenBlock block(path,
                      {{"rwkv6",
                        golden_options({{"head_dim", file.metadata("head_size")},
                                        {"mix_rank", std::to_string(mix)},
                                        {"decay_rank", std::to_string(decay)},
                                        {"norm_eps", file.metadata("ln_x_eps")}}),
                        at + "ln1", at + "att.", names, low_rank},
                       {"cmix",
                        golden_options({{"ffn", file.metadata("dim_ffn")}, {"receptance", "true"}}),
                        at + "ln2",
                        at + "ffn.",
                        {{"x_k", "time_maa_k"}, {"x_r", "time_maa_r"}}}},
                      "ln_eps");
    block.check_training(kOutput, kGradient);
    block.check_continuation(
        kOutput, [&](const GoldenBlock::States& states, const std::string& when) {
          for (int64_t s = 0; s < block.sequences(); ++s) {
            auto& group = dynamic_cast<GroupState&>(*states[0][static_cast<size_t>(s)]);
            const auto& wkv = dynamic_cast<const MatrixState&>(group.member(0));
            const auto& row = dynamic_cast<const ConvState&>(group.member(1));
            const auto& ffn = dynamic_cast<const ConvState&>(*states[1][static_cast<size_t>(s)]);
            const auto stored = [&](const char* name) { return block.file().tensor(when + name); };
            GoldenBlock::check(when + "wkv", wkv.matrix(), stored("wkv").select(0, s), kOutput);
            GoldenBlock::check(when + "att_shift", row.window(),
                               stored("att_shift").narrow(0, s, 1), kOutput);
            GoldenBlock::check(when + "ffn_shift", ffn.window(),
                               stored("ffn_shift").narrow(0, s, 1), kOutput);
          }
        });
  }
}

}  // namespace braid::testing
