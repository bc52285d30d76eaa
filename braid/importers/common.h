#pragma once
// What most families share: attention, positions, feed-forward, and the names of a Llama-like
// checkpoint.

#include <string>
#include <vector>

#include "braid/base/function_ref.h"
#include "braid/importers/config_reader.h"
#include "braid/importers/family.h"
#include "braid/importers/mamba2_keys.h"
#include "braid/importers/tensor_table.h"

namespace braid {

// Options of a layer, left out where they are the layer's default.
class OptionList {
 public:
  OptionList& add(const char* key, int64_t value, int64_t fallback);
  OptionList& add(const char* key, double value, double fallback);
  OptionList& add(const char* key, bool value, bool fallback);
  OptionList& add(const char* key, const std::string& value, const std::string& fallback);
  LayerSpec layer(const char* name) const { return {name, options_}; }

 private:
  Options options_;
};

struct RopeSettings {
  bool on = true;
  double theta = 10000;
  double partial = 1;   // part of a head that turns
  std::string scaling;  // gqa's and mla's rope_scaling, "" = none
  double mscale = 1;    // YaRN's M(factor, mscale_all_dim), for MLA's softmax scale
  bool operator==(const RopeSettings&) const = default;
};

struct RopeDefaults {
  double theta = 10000;
  double partial = 1;
  int64_t max_positions = 2048;
  const char* theta_key = "rope_theta";
  bool unscaled = false;  // rope_scaling is of other layers
};
// Of all layers, or of those of one layer type where rope_parameters is keyed by it. All
// spellings: rope_theta + rope_scaling + partial_rotary_factor, rope_parameters, and what newer
// releases hold in rope_scaling; they may not contradict each other.
RopeSettings read_rope(ConfigReader& config, const RopeDefaults& defaults,
                       const char* layer_type = nullptr);
// The same where rotary_dim may say how many channels of a head turn.
RopeSettings read_partial_rope(ConfigReader& config, RopeDefaults defaults, int64_t head_dim);
// Whether rope_parameters or rope_scaling has settings by layer type.
bool is_keyed(const ConfigReader& config, const char* key, const Json& rope);
// The scaling alone, of an object in the form of rope_scaling.
std::string rope_scaling_text(const ConfigReader& config, const Json& rope, double max_positions,
                              double* mscale);

struct GqaSettings {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  RopeSettings rope;
  bool interleaved = false;
  std::string bias = "none", qk_norm = "none";
  bool one_plus = false, gate = false, sinks = false;
  int64_t window = 0, chunk = 0;
  double scale = 0, softcap = 0, out_scale = 1;
};
LayerSpec gqa_layer(const GqaSettings& gqa, const ModelSettings& model);

// heads, kv_heads, head_dim into `gqa`, and the model's defaults from them.
struct HeadDefaults {
  int64_t heads = 32, kv_heads = 0, head_dim = 0;  // 0: heads; width / heads
};
void read_heads(ConfigReader& config, const HeadDefaults& defaults, FamilyModel& model,
                GqaSettings& gqa);

// hidden_size, vocab_size, rms_norm_eps (or another key), tie_word_embeddings, num_hidden_layers,
// max_position_embeddings.
struct ModelDefaults {
  int64_t width = 4096, layers = 32, vocab = 32000, max_positions = 2048;
  double eps = 1e-6;
  bool tied = false;
  const char* eps_key = "rms_norm_eps";
};
void read_model(ConfigReader& config, const ModelDefaults& defaults, FamilyModel& model);

LayerSpec swiglu_layer(int64_t ffn, const char* act = "silu", bool bias = false);

// A feed-forward layer of experts.
struct MoeSettings {
  int64_t experts = 0, top_k = 0, ffn = 0;
  bool sigmoid = false;     // scores; else softmax over all experts
  bool renormalise = true;  // weights of the chosen sum to one
  double scale = 1;
  int64_t groups = 1, topk_groups = 1;
  bool correction_bias = false;  // added to the scores for choosing only
  int64_t shared = 0;            // width of the shared expert, 0 = none
  bool shared_gate = false;
  bool router_bias = false, expert_bias = false;
  bool clamped = false;  // gpt-oss's activation
  double limit = 7, alpha = 1.702;
  bool gated = true;  // false: Nemotron's relu2
};
LayerSpec moe_layer(const MoeSettings& moe);
// Experts and choices, under any of their names; throws where they do not fit.
void read_experts(ConfigReader& config, int64_t experts, int64_t top_k, int64_t ffn,
                  MoeSettings& moe);

// DeepSeek V3's router: sigmoid scores, a correction bias, choice within groups, shared experts.
struct RouterDefaults {
  int64_t groups = 1, topk_groups = 1;
  double scale = 1;
};
void read_sigmoid_router(ConfigReader& config, const RouterDefaults& defaults, MoeSettings& moe);
// Qwen: every decoder_sparse_step-th layer has experts, but those in mlp_only_layers.
std::vector<bool> qwen_sparse_layers(ConfigReader& config, int64_t layers);
// mlp_layer_types of newer configs, "dense" or "sparse"; empty when absent.
std::vector<std::string> read_mlp_layer_types(ConfigReader& config, int64_t layers);

// DeepSeek's latent attention; q_lora_rank 0 = q is projected at once.
LayerSpec mla_layer(int64_t heads, int64_t q_lora_rank, int64_t kv_lora_rank, int64_t nope,
                    int64_t rope, int64_t value, const RopeSettings& positions, bool interleaved,
                    bool bias);

// Mamba's selective state space, under the names of its option list.
struct MambaSettings {
  int64_t inner = 0, state = 16, conv = 4, dt_rank = 0;
  bool conv_bias = true, bias = false;
  bool norms = false, norm_gains = true;  // of dt, B and C
  double norm_eps = 0;                    // of those, 0: the model's
};
LayerSpec mamba_layer(const MambaSettings& mamba, int64_t width);
// A rank that is a number or "auto": width / 16, rounded up.
int64_t read_dt_rank(ConfigReader& config, const char* key, int64_t width);

// Mamba-2 under the names of its option list.
struct Mamba2Settings {
  int64_t heads = 0, head_dim = 64, state = 128, groups = 1, conv = 4;
  bool conv_bias = true, bias = false;
  std::string norm = "gated";
  int64_t norm_groups = 0;        // 0: groups
  double norm_eps = 0;            // 0: the model's
  double dt_min = 0, dt_max = 0;  // dt_max 0: no limit
  bool channel_skip = false;
  std::string in_scales = "";  // none
  double out_scale = 1;
};
LayerSpec mamba2_layer(const Mamba2Settings& mamba, int64_t width);
// Sizes under the names of `keys`, those of `defaults` where they are absent; a head_dim of 0 there
// is left to the caller.
Mamba2Settings read_mamba2_sizes(ConfigReader& config, const Mamba2Keys& keys,
                                 Mamba2Settings defaults);
// The same under Bamba's names, of `inner` channels, which `inner_key` gave.
Mamba2Settings read_bamba_mamba2(ConfigReader& config, int64_t inner, const char* inner_key);
// Throws where groups, heads and states do not fit together.
void check_mamba2(const ConfigReader& config, const Mamba2Settings& mamba);
// The range that step sizes are kept in: [from, to] under `key`, where `to` may be infinite.
void read_step_limit(ConfigReader& config, const char* key, Mamba2Settings& mamba);

// A positive constant, 1 when absent.
double read_multiplier(ConfigReader& config, const char* key);

// The stack of m.layers layers, two sub-layers each.
void set_stack(FamilyModel& model, FunctionRef<LayerSpec(int64_t)> mixer,
               FunctionRef<LayerSpec(int64_t)> channel);
// The same of layers that are one sub-layer, whatever its kind; sets m.slots.
void set_stack(FamilyModel& model, FunctionRef<LayerSpec(int64_t)> layer);

// layer_types, also as layers_block_type, in the names that transformers gives them now; checked
// against `known`; empty when absent.
std::vector<std::string> read_layer_types(ConfigReader& config, int64_t layers,
                                          std::initializer_list<const char*> known);

// Qwen's windows of every layer, 0 = none: layer_types, or use_sliding_window from
// max_window_layers on.
std::vector<int64_t> qwen_windows(ConfigReader& config, int64_t layers, int64_t first = 28);

// Rows that nearly every checkpoint has: embedding, final norm, head, the two norms of a layer.
std::vector<TensorRow> base_table(const char* mixer_norm = "input_layernorm",
                                  const char* channel_norm = "post_attention_layernorm");
void append(std::vector<TensorRow>& table, std::vector<TensorRow> rows);
// self_attn.* and mlp.* as gqa and swiglu name them.
std::vector<TensorRow> gqa_rows();
// Mamba-2's below `scope` ("mamba."), where one matrix holds the projection and that of the steps.
std::vector<TensorRow> mamba2_rows(const Mamba2Settings& mamba, const std::string& scope,
                                   const std::string& own = "mixer.mamba2.");
std::vector<TensorRow> swiglu_rows();
// Stack and table of a model in Llama's form: a mixer of every layer, one kind of channel, and the
// usual names.
void set_llama_form(FamilyModel& model, FunctionRef<LayerSpec(int64_t)> mixer,
                    const LayerSpec& channel);
// All experts of a layer in two tensors, as transformers 5 holds them and may write them.
std::vector<TensorRow> stacked_expert_rows(const std::string& scope = "mlp.");
// The experts of a layer, one by one or else stacked: "mlp.", "gate_proj", "up_proj", "down_proj",
// "shared_experts" (or "").
std::vector<TensorRow> moe_rows(const std::string& scope = "mlp.",
                                const std::string& gate = "gate_proj",
                                const std::string& up = "up_proj",
                                const std::string& down = "down_proj",
                                const std::string& shared = "shared_experts");

constexpr int64_t kMostLayers = 2048;

}  // namespace braid
