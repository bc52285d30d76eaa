#pragma once
// What a GGUF file and a Hugging Face config.json both say of a model, for the architectures that
// have a place in both. Facts about keys and names: llama.cpp's converter and loader (mid 2026).

#include <cstdint>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/formats/gguf.h"

namespace braid {

struct GgufModel {
  std::string arch;  // general.architecture
  int64_t layers = 0, width = 0, ffn = 0, vocab = 0, context = 0;
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  bool tied = false, attention_bias = false, head_norms = false;
  double eps = 1e-6, theta = 10000;

  // Positions. scaling: "" | linear | yarn | llama3 | longrope (divisors).
  std::string scaling;
  double factor = 1, low = 1, high = 4, attention_factor = 0;  // 0: the type's own
  int64_t original_context = 0;
  double beta_fast = 32, beta_slow = 1;
  double mscale = 0;  // YaRN's, and mscale_all_dim
  std::vector<double> divisors;
  int64_t rotary = 0;             // channels of a head that turn; 0 = all
  std::vector<int32_t> sections;  // how many pairs of them belong to each axis of an image

  // Windows (gemma3): a layer is full where full[i]. Also which layers of a hybrid attend.
  int64_t window = 0;
  double local_theta = 10000, query_scalar = 0, softcap = 0, score_softcap = 0;
  std::vector<bool> full;

  // Experts.
  int64_t experts = 0, used = 0, expert_ffn = 0, shared_ffn = 0, shared_count = 0, dense_lead = 0;
  int64_t groups = 1, groups_used = 1;
  double routed_scale = 1;
  bool norm_topk = true, sigmoid_router = false;

  // Linear layers: key and value heads, their channels, taps.
  int64_t key_heads = 0, value_heads = 0, key_dim = 0, value_dim = 0, taps = 0;

  // Latent attention.
  int64_t q_lora = 0, kv_lora = 0, nope_dim = 0, rope_dim = 0, v_dim = 0;

  bool attends(int64_t layer) const { return full.empty() || full[static_cast<size_t>(layer)]; }
};

// The decimal number that a person wrote before it became an f32: 1e-6, not 9.99999997e-07. Values
// that are no f32 stay.
double shortest_f32(double value);

// Throws Error(kBadInput) naming the key, or the architecture and those that are known.
GgufModel gguf_model_of(const GgufFile& file);
// A config.json in the older spelling, as the families read it.
Json hf_config_of(const GgufModel& model);

// From a config.json in either spelling. Throws Error(kBadInput) when the type has no GGUF form
// here, naming those that have, or when a setting has none.
GgufModel gguf_model_of_config(const Json& config, const std::string& source);
// general.architecture and the architecture's keys.
void put_metadata(GgufWriter& writer, const GgufModel& model);

}  // namespace braid
