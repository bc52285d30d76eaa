#include "braid/importers/architectures.h"

#include <algorithm>
#include <utility>

#include "braid/base/error.h"

namespace braid {

const char* architecture_of(std::string_view model_type) {
  constexpr std::pair<std::string_view, const char*> kClasses[] = {
      {"deepseek_v3", "DeepseekV3ForCausalLM"},
      {"falcon_h1", "FalconH1ForCausalLM"},
      {"gemma2", "Gemma2ForCausalLM"},
      {"gemma3_text", "Gemma3ForCausalLM"},
      {"glm4_moe", "Glm4MoeForCausalLM"},
      {"gpt2", "GPT2LMHeadModel"},
      {"gpt_oss", "GptOssForCausalLM"},
      {"granitemoehybrid", "GraniteMoeHybridForCausalLM"},
      {"hymba", "HymbaForCausalLM"},
      {"jamba", "JambaForCausalLM"},
      {"kimi_linear", "KimiLinearForCausalLM"},
      {"lfm2", "Lfm2ForCausalLM"},
      {"llama", "LlamaForCausalLM"},
      {"mamba", "MambaForCausalLM"},
      {"mamba2", "Mamba2ForCausalLM"},
      {"minimax_m2", "MiniMaxM2ForCausalLM"},
      {"nemotron_h", "NemotronHForCausalLM"},
      {"olmo2", "Olmo2ForCausalLM"},
      {"qwen2", "Qwen2ForCausalLM"},
      {"qwen3", "Qwen3ForCausalLM"},
      {"qwen3_5_moe_text", "Qwen3_5MoeForCausalLM"},
      {"qwen3_5_text", "Qwen3_5ForCausalLM"},
      {"qwen3_moe", "Qwen3MoeForCausalLM"},
      {"qwen3_next", "Qwen3NextForCausalLM"},
      {"rwkv7", "RWKV7ForCausalLM"},
      {"smollm3", "SmolLM3ForCausalLM"}};
  const auto found = std::find_if(std::begin(kClasses), std::end(kClasses),
                                  [&](const auto& c) { return c.first == model_type; });
  BRAID_CHECK(found != std::end(kClasses));
  return found->second;
}

}  // namespace braid
