#include "braid/importers/architectures.h"

#include <algorithm>
#include <utility>

#include "braid/base/error.h"

namespace braid {

const char* architecture_of(std::string_view model_type) {
  constexpr std::pair<std::string_view, const char*> kClasses[] = {
      {"deepseek_v3", "DeepseekV3ForCausalLM"},
      {"falcon_h1", "FalconH1ForCausalLM"},
      {"gemma3_text", "Gemma3ForCausalLM"},
      {"gpt_oss", "GptOssForCausalLM"},
      {"granitemoehybrid", "GraniteMoeHybridForCausalLM"},
      {"hymba", "HymbaForCausalLM"},
      {"jamba", "JambaForCausalLM"},
      {"kimi_linear", "KimiLinearForCausalLM"},
      {"lfm2", "Lfm2ForCausalLM"},
      {"llama", "LlamaForCausalLM"},
      {"mamba", "MambaForCausalLM"},
      {"mamba2", "Mamba2ForCausalLM"},
      {"nemotron_h", "NemotronHForCausalLM"},
      {"qwen2", "Qwen2ForCausalLM"},
      {"qwen3", "Qwen3ForCausalLM"},
      {"qwen3_moe", "Qwen3MoeForCausalLM"},
      {"qwen3_next", "Qwen3NextForCausalLM"},
      {"rwkv7", "RWKV7ForCausalLM"}};
  const auto found = std::find_if(std::begin(kClasses), std::end(kClasses),
                                  [&](const auto& c) { return c.first == model_type; });
  BRAID_CHECK(found != std::end(kClasses));
  return found->second;
}

}  // namespace braid
