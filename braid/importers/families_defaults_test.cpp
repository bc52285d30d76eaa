// Every family's config.json with the defaults of its class written out, as transformers 5 does.

#include <doctest/doctest.h>

#include <initializer_list>
#include <string>

#include "braid/base/format.h"
#include "braid/testing/family_checkpoints.h"

namespace braid::testing {
namespace {

// Of every family: what transformers writes that says nothing about the maths.
constexpr const char* kCommon = R"("architectures": ["X"], "dtype": "bfloat16", "use_cache": true,
    "transformers_version": "5.3.0", "initializer_range": 0.02, "pad_token_id": null,
    "bos_token_id": 1, "eos_token_id": [2, 3], "attention_dropout": 0.0,
    "output_hidden_states": false, "return_dict": true, "chunk_size_feed_forward": 0,
    "is_encoder_decoder": false, "id2label": {"0": "LABEL_0", "1": "LABEL_1"},
    "label2id": {"LABEL_0": 0, "LABEL_1": 1}, "problem_type": null, "_name_or_path": "")";

// "key": [...] of `layers` names that repeat.
std::string list(const char* key, int64_t layers, std::initializer_list<const char*> names) {
  std::string out;
  for (int64_t i = 0; i < layers; ++i)
    out += format("{}\"{}\"", i == 0 ? "" : ", ",
                  names.begin()[static_cast<size_t>(i) % names.size()]);
  return format("\"{}\": [{}]", key, out);
}

std::string types(int64_t layers, std::initializer_list<const char*> names) {
  return list("layer_types", layers, names);
}

// `bare` and `full` are the keys beside model_type.
struct Spelling {
  const char* type;
  std::string bare, full;
};

constexpr const char* kFull = "full_attention";
constexpr const char* kSliding = "sliding_attention";
constexpr const char* kLinear = "linear_attention";
constexpr const char* kPlainRope =
    R"("rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"})";

std::string plus(std::initializer_list<std::string> parts) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty() && !part.empty()) out += ',';
    out += part;
  }
  return out;
}

std::string object(std::initializer_list<std::string> parts) {
  return format("{{{}}}", plus(parts));
}

std::vector<Spelling> attention_defaults() {
  return {
      {"llama", "",
       plus({kPlainRope, types(32, {kFull}), R"("vocab_size": 32000, "hidden_size": 4096,
         "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-06, "pretraining_tp": 1, "tie_word_embeddings": false,
         "attention_bias": false, "mlp_bias": false, "head_dim": 128)"})},
      {"mistral", "",
       plus({kPlainRope, R"("vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 14336,
         "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 128, "hidden_act": "silu", "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-06, "tie_word_embeddings": false, "sliding_window": 4096,
         "attention_bias": false, "mlp_bias": false)"})},
      {"qwen2", "",
       plus({kPlainRope, types(32, {kFull}), R"("vocab_size": 151936, "hidden_size": 4096,
         "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 32768,
         "rms_norm_eps": 1e-06, "tie_word_embeddings": false, "use_sliding_window": false,
         "sliding_window": null, "max_window_layers": 28)"})},
      {"qwen3", "",
       plus({kPlainRope, types(32, {kFull}), R"("vocab_size": 151936, "hidden_size": 4096,
         "intermediate_size": 22016, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 32, "head_dim": 128, "hidden_act": "silu",
         "max_position_embeddings": 32768, "rms_norm_eps": 1e-06, "tie_word_embeddings": false,
         "attention_bias": false, "use_sliding_window": false, "sliding_window": null,
         "max_window_layers": 28)"})},
      {"qwen3_moe", "",
       plus({kPlainRope, types(24, {kFull}), R"("vocab_size": 151936, "hidden_size": 2048,
         "intermediate_size": 6144, "num_hidden_layers": 24, "num_attention_heads": 32,
         "num_key_value_heads": 4, "hidden_act": "silu", "max_position_embeddings": 32768,
         "rms_norm_eps": 1e-06, "tie_word_embeddings": false, "attention_bias": false,
         "use_sliding_window": false, "sliding_window": null, "decoder_sparse_step": 1,
         "moe_intermediate_size": 768, "num_experts_per_tok": 8, "num_experts": 128,
         "norm_topk_prob": false, "output_router_logits": false, "router_aux_loss_coef": 0.001,
         "mlp_only_layers": [])"})},
      {"gemma2", "", plus({kPlainRope, types(26, {kSliding, kFull}), R"("vocab_size": 256000,
         "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
         "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256,
         "hidden_activation": "gelu_pytorch_tanh", "max_position_embeddings": 8192,
         "rms_norm_eps": 1e-06, "tie_word_embeddings": true, "attention_bias": false,
         "query_pre_attn_scalar": 256, "sliding_window": 4096, "final_logit_softcapping": 30.0,
         "attn_logit_softcapping": 50.0, "use_bidirectional_attention": null)"})},
      {"gemma3_text", "",
       plus({types(26, {kSliding, kSliding, kSliding, kSliding, kSliding, kFull}),
             R"("vocab_size": 262208, "hidden_size": 2304, "intermediate_size": 9216,
         "num_hidden_layers": 26, "num_attention_heads": 8, "num_key_value_heads": 4,
         "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-06, "tie_word_embeddings": true,
         "rope_parameters": {"full_attention": {"rope_theta": 1000000.0, "rope_type": "default"},
         "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"}},
         "attention_bias": false, "query_pre_attn_scalar": 256, "sliding_window": 4096,
         "_sliding_window_pattern": 6, "final_logit_softcapping": null,
         "attn_logit_softcapping": null, "use_bidirectional_attention": false)"})},
      {"olmo2", "",
       plus({kPlainRope, types(32, {kFull}), R"("vocab_size": 50304, "hidden_size": 4096,
         "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
         "tie_word_embeddings": false, "attention_bias": false, "rms_norm_eps": 1e-05)"})},
      {"olmo3", R"("rope_theta": 500000)",
       plus({types(32, {kSliding, kSliding, kSliding, kFull}), R"("vocab_size": 50304,
         "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 32, "hidden_act": "silu",
         "max_position_embeddings": 2048, "tie_word_embeddings": false, "attention_bias": false,
         "rms_norm_eps": 1e-05, "sliding_window": 4096, "rope_parameters": {"full_attention":
         {"rope_theta": 500000.0, "rope_type": "default"}, "sliding_attention":
         {"rope_theta": 500000.0, "rope_type": "default"}})"})},
      {"smollm3", "", plus({types(36, {kFull}), R"("vocab_size": 128256, "hidden_size": 2048,
         "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16,
         "num_key_value_heads": 4, "hidden_act": "silu", "max_position_embeddings": 32768,
         "rms_norm_eps": 1e-06, "rope_parameters": {"rope_theta": 2000000.0,
         "rope_type": "default"}, "use_sliding_window": false, "sliding_window": null,
         "no_rope_layers": [1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0,
         1, 1, 1, 0, 1, 1, 1, 0, 1, 1, 1, 0], "no_rope_layer_interval": 4,
         "attention_bias": false, "mlp_bias": false, "tie_word_embeddings": true)"})},
      {"gpt2", "", R"("vocab_size": 50257, "n_positions": 1024, "n_embd": 768, "n_layer": 12,
         "n_head": 12, "n_inner": null, "activation_function": "gelu_new", "resid_pdrop": 0.1,
         "embd_pdrop": 0.1, "attn_pdrop": 0.1, "layer_norm_epsilon": 1e-05,
         "summary_type": "cls_index", "summary_use_proj": true, "summary_activation": null,
         "summary_proj_to_labels": true, "summary_first_dropout": 0.1,
         "scale_attn_weights": true, "scale_attn_by_inverse_layer_idx": false,
         "reorder_and_upcast_attn": false, "add_cross_attention": false,
         "tie_word_embeddings": true)"},
      {"gpt_oss", "",
       plus({types(36, {kSliding, kFull}), R"("num_local_experts": 128, "vocab_size": 201088,
         "num_hidden_layers": 36, "hidden_size": 2880, "intermediate_size": 2880, "head_dim": 64,
         "num_attention_heads": 64, "num_key_value_heads": 8, "sliding_window": 128,
         "tie_word_embeddings": false, "hidden_act": "silu", "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-05, "rope_parameters": {"rope_type": "yarn", "factor": 32.0,
         "beta_fast": 32.0, "beta_slow": 1.0, "truncate": false,
         "original_max_position_embeddings": 4096, "rope_theta": 150000.0},
         "num_experts_per_tok": 4, "swiglu_alpha": 1.702, "swiglu_limit": 7.0,
         "router_aux_loss_coef": 0.001, "output_router_logits": false,
         "attention_bias": true)"})},
      {"glm4_moe", R"("head_dim": 128)",
       plus({types(46, {kFull}), R"("vocab_size": 151552, "hidden_size": 4096,
         "intermediate_size": 10944, "num_hidden_layers": 46, "num_attention_heads": 96,
         "num_key_value_heads": 8, "hidden_act": "silu", "max_position_embeddings": 131072,
         "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "rope_parameters":
         {"rope_theta": 10000.0, "rope_type": "default", "partial_rotary_factor": 0.5},
         "partial_rotary_factor": 0.5, "attention_bias": false, "moe_intermediate_size": 1408,
         "num_experts_per_tok": 8, "n_shared_experts": 1, "n_routed_experts": 128,
         "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1,
         "norm_topk_prob": true, "use_qk_norm": false, "head_dim": 128)"})}};
}

std::vector<Spelling> latent_defaults() {
  return {
      {"deepseek_v3", "",
       plus({kPlainRope, types(61, {kFull}), R"("vocab_size": 129280, "hidden_size": 7168,
         "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_hidden_layers": 61,
         "num_attention_heads": 128, "num_key_value_heads": 128, "n_shared_experts": 1,
         "n_routed_experts": 256, "routed_scaling_factor": 2.5, "kv_lora_rank": 512,
         "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128,
         "qk_nope_head_dim": 128, "qk_head_dim": 192, "head_dim": 64, "n_group": 8,
         "topk_group": 4, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
         "norm_topk_prob": true, "hidden_act": "silu", "max_position_embeddings": 4096,
         "rms_norm_eps": 1e-06, "pretraining_tp": 1, "tie_word_embeddings": false,
         "rope_interleave": true, "attention_bias": false)"})},
      {"deepseek_v32", "",
       plus({kPlainRope, types(61, {"deepseek_sparse_attention"}), R"("vocab_size": 129280,
         "hidden_size": 7168, "intermediate_size": 18432, "moe_intermediate_size": 2048,
         "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
         "n_shared_experts": 1, "n_routed_experts": 256, "routed_scaling_factor": 2.5,
         "kv_lora_rank": 512, "q_lora_rank": 1536, "qk_rope_head_dim": 64, "v_head_dim": 128,
         "qk_nope_head_dim": 128, "qk_head_dim": 192, "head_dim": 64, "n_group": 8,
         "topk_group": 4, "num_experts_per_tok": 8, "norm_topk_prob": true, "hidden_act": "silu",
         "max_position_embeddings": 163840, "rms_norm_eps": 1e-06, "tie_word_embeddings": false,
         "attention_bias": false, "index_topk": 2048, "index_head_dim": 128,
         "index_n_heads": 64, "mlp_bias": false, "first_k_dense_replace": 3)"})},
      {"glm_moe_dsa", "",
       plus({kPlainRope, types(78, {"indexed_attention"}), list("indexer_types", 78, {"full"}),
             R"("vocab_size": 154880, "hidden_size": 6144, "intermediate_size": 12288,
         "moe_intermediate_size": 2048, "num_hidden_layers": 78, "num_attention_heads": 64,
         "num_key_value_heads": 64, "n_shared_experts": 1, "n_routed_experts": 256,
         "routed_scaling_factor": 2.5, "kv_lora_rank": 512, "q_lora_rank": 2048,
         "qk_rope_head_dim": 64, "v_head_dim": 256, "qk_nope_head_dim": 192, "qk_head_dim": 256,
         "head_dim": 64, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 8,
         "norm_topk_prob": true, "hidden_act": "silu", "max_position_embeddings": 202752,
         "rms_norm_eps": 1e-05, "tie_word_embeddings": false, "attention_bias": false,
         "index_topk": 2048, "index_head_dim": 128, "index_n_heads": 32, "mlp_bias": false,
         "index_share_for_mtp_iteration": true, "index_topk_pattern": null,
         "first_k_dense_replace": 3)"})},
      {"kimi_linear", plus({types(8, {kLinear, kLinear, kLinear, kFull}), R"("num_hidden_layers": 8,
         "rms_norm_eps": 1e-05, "routed_scaling_factor": 2.446, "n_shared_experts": 1,
         "first_k_dense_replace": 1, "mla_use_nope": true, "model_max_length": 1048576)"}),
       plus({R"("vocab_size": 163840, "hidden_size": 2304, "intermediate_size": 9216,
         "moe_intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 32,
         "num_key_value_heads": 32, "num_shared_experts": 1, "output_router_logits": false,
         "routed_scaling_factor": 2.446, "kv_lora_rank": 512, "q_lora_rank": null,
         "qk_rope_head_dim": 64, "v_head_dim": 128, "qk_nope_head_dim": 128, "qk_head_dim": 192,
         "head_dim": 64, "n_group": 1, "topk_group": 1, "num_experts_per_token": 8,
         "moe_renormalize": true, "norm_topk_prob": true, "hidden_act": "silu",
         "model_max_length": 1048576, "rms_norm_eps": 1e-05, "pretraining_tp": 1,
         "tie_word_embeddings": false, "attention_bias": false, "num_experts": 256,
         "mlp_layer_types": ["dense", "sparse", "sparse", "sparse", "sparse", "sparse", "sparse",
         "sparse"], "linear_head_dim": 128, "linear_num_heads": 32, "linear_conv_kernel_dim": 4,
         "linear_attn_config": {"head_dim": 128, "num_heads": 32, "short_conv_kernel_size": 4,
         "kda_layers": [1, 2, 3, 5, 6, 7], "full_attn_layers": [4, 8]}, "mla_use_nope": true,
         "mla_use_output_gate": false, "attn_res_block_size": 0, "dense_ffn_hidden": 9216,
         "activation_situ_beta": 1.0, "activation_situ_linear_beta": 1.0)",
             types(8, {kLinear, kLinear, kLinear, kFull})})}};
}

std::vector<Spelling> linear_defaults() {
  const std::string quarter = R"("rope_parameters": {"rope_theta": 10000.0,
      "rope_type": "default", "partial_rotary_factor": 0.25}, "partial_rotary_factor": 0.25)";
  const std::string delta = R"("linear_conv_kernel_dim": 4, "linear_key_head_dim": 128,
      "linear_value_head_dim": 128, "linear_num_key_heads": 16, "linear_num_value_heads": 32,
      "hidden_act": "silu", "max_position_embeddings": 32768, "rms_norm_eps": 1e-06,
      "tie_word_embeddings": false, "attention_bias": false, "head_dim": 256,
      "num_attention_heads": 16)";
  return {{"qwen3_next", "",
           plus({quarter, delta, types(48, {kLinear, kLinear, kLinear, kFull}),
                 R"("vocab_size": 151936, "hidden_size": 2048, "intermediate_size": 5632,
         "num_hidden_layers": 48, "num_key_value_heads": 2, "decoder_sparse_step": 1,
         "moe_intermediate_size": 512, "shared_expert_intermediate_size": 512,
         "num_experts_per_tok": 10, "num_experts": 512, "norm_topk_prob": true,
         "output_router_logits": false, "router_aux_loss_coef": 0.001, "mlp_only_layers": [],
         "use_sliding_window": false)"})},
          {"qwen3_5_text", "",
           plus({quarter, delta, types(32, {kLinear, kLinear, kLinear, kFull}),
                 R"("vocab_size": 248320, "hidden_size": 4096, "intermediate_size": 12288,
         "num_hidden_layers": 32, "num_key_value_heads": 4, "mlp_only_layers": [],
         "attn_output_gate": true, "output_gate_type": "swish", "mamba_ssm_dtype": "float32")"})},
          {"qwen3_5_moe_text", "",
           plus({quarter, delta, types(40, {kLinear, kLinear, kLinear, kFull}),
                 R"("vocab_size": 248320, "hidden_size": 2048, "num_hidden_layers": 40,
         "num_key_value_heads": 2, "moe_intermediate_size": 512,
         "shared_expert_intermediate_size": 512, "num_experts_per_tok": 8, "num_experts": 256,
         "norm_topk_prob": true, "decoder_sparse_step": 1, "intermediate_size": 5632,
         "mlp_only_layers": [], "output_router_logits": false, "router_aux_loss_coef": 0.001)"})},
          {"minimax", "",
           plus({types(32, {kFull, kLinear}), R"("vocab_size": 32000, "hidden_size": 4096,
         "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "head_dim": null, "hidden_act": "silu",
         "max_position_embeddings": 131072, "rms_norm_eps": 1e-05, "tie_word_embeddings": false,
         "sliding_window": null, "num_experts_per_tok": 2, "num_local_experts": 8,
         "output_router_logits": false, "router_aux_loss_coef": 0.001,
         "router_jitter_noise": 0.0, "rope_parameters": {"rope_theta": 1000000.0,
         "rope_type": "default"}, "block_size": 256, "full_attn_alpha_factor": 1,
         "full_attn_beta_factor": 1, "linear_attn_alpha_factor": 1,
         "linear_attn_beta_factor": 1, "mlp_alpha_factor": 1, "mlp_beta_factor": 1)"})},
          {"minimax_m2", R"("rotary_dim": 64)",
           plus({types(62, {kFull}), R"("vocab_size": 200064, "hidden_size": 3072,
         "intermediate_size": 1536, "num_hidden_layers": 62, "num_attention_heads": 48,
         "num_key_value_heads": 8, "head_dim": 128, "hidden_act": "silu",
         "max_position_embeddings": 196608, "rms_norm_eps": 1e-06, "tie_word_embeddings": false,
         "num_experts_per_tok": 8, "num_local_experts": 256, "output_router_logits": false,
         "router_aux_loss_coef": 0.001, "router_jitter_noise": 0.0, "sliding_window": null,
         "rope_parameters": {"rope_theta": 5000000.0, "rope_type": "default",
         "partial_rotary_factor": 0.5})"})},
          {"lfm2", "", plus({types(32, {kFull}), R"("vocab_size": 65536, "hidden_size": 2560,
         "intermediate_size": 12288, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "max_position_embeddings": 128000, "norm_eps": 1e-05,
         "tie_word_embeddings": true, "rope_parameters": {"rope_theta": 1000000.0,
         "rope_type": "default"}, "conv_bias": false, "conv_L_cache": 3,
         "block_multiple_of": 256, "block_ffn_dim_multiplier": 1.0,
         "block_auto_adjust_ff_dim": true, "full_attn_idxs": null)"})}};
}

std::vector<Spelling> state_space_defaults() {
  const std::string falcon_h1 = R"("vocab_size": 128000, "tie_word_embeddings": false,
      "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
      "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
      "rms_norm_eps": 1e-05, "num_logits_to_keep": 1, "max_position_embeddings": 8192,
      "mamba_d_ssm": 1024, "mamba_n_heads": 128, "mamba_d_head": 8, "mamba_n_groups": 1,
      "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 256,
      "mamba_conv_bias": true, "mamba_proj_bias": false, "mamba_norm_before_gate": true,
      "mamba_rms_norm": false, "time_step_min": 0.001, "time_step_max": 0.1,
      "time_step_limit": [0.0, {"__float__": "Infinity"}], "projectors_bias": false,
      "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
      "lm_head_multiplier": 1.0, "embedding_multiplier": 1.0, "mlp_multipliers": [1.0, 1.0],
      "key_multiplier": 1.0, "attention_out_multiplier": 1.0, "attention_in_multiplier": 1.0,
      "ssm_multipliers": [1.0, 1.0, 1.0, 1.0, 1.0], "ssm_in_multiplier": 1.0,
      "ssm_out_multiplier": 1.0, "attention_bias": false, "mlp_bias": false)";
  const std::string mamba = R"("vocab_size": 50280, "hidden_size": 768, "state_size": 16,
      "num_hidden_layers": 32, "layer_norm_epsilon": 1e-05, "expand": 2, "conv_kernel": 4,
      "use_bias": false, "use_conv_bias": true, "hidden_act": "silu", "residual_in_fp32": true,
      "time_step_rank": 48, "time_step_scale": 1.0, "time_step_min": 0.001,
      "time_step_max": 0.1, "time_step_init_scheme": "random", "time_step_floor": 0.0001,
      "rescale_prenorm_residual": false, "use_associative_scan": true,
      "tie_word_embeddings": true, "intermediate_size": 1536)";
  return {{"mamba", "", plus({mamba, types(32, {kLinear}), R"("use_mambapy": false)"})},
          {"falcon_mamba", "", plus({mamba, types(32, {"mamba"}), R"("use_falcon_mambapy": false,
         "mixer_rms_eps": 1e-06)"})},
          {"mamba2", "",
           plus({types(64, {kLinear}), R"("num_heads": 128, "head_dim": 64, "vocab_size": 32768,
         "hidden_size": 4096, "state_size": 128, "num_hidden_layers": 64,
         "layer_norm_epsilon": 1e-05, "expand": 2, "conv_kernel": 4, "n_groups": 8,
         "use_bias": false, "use_conv_bias": true, "hidden_act": "silu",
         "residual_in_fp32": true, "time_step_rank": 256, "time_step_min": 0.001,
         "time_step_max": 0.1, "time_step_floor": 0.0001,
         "time_step_limit": [0.0, {"__float__": "Infinity"}], "rescale_prenorm_residual": false,
         "rms_norm": true, "chunk_size": 256, "tie_word_embeddings": false)"})},
          {"jamba", "",
           plus({types(32, {kLinear, kLinear, kLinear, kLinear, kFull, kLinear, kLinear, kLinear}),
                 R"("vocab_size": 65536, "tie_word_embeddings": false, "hidden_size": 4096,
         "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8, "hidden_act": "silu", "rms_norm_eps": 1e-06,
         "output_router_logits": false, "router_aux_loss_coef": 0.001,
         "max_position_embeddings": 262144, "num_experts_per_tok": 2, "num_experts": 16,
         "expert_layer_period": 2, "expert_layer_offset": 1, "attn_layer_period": 8,
         "attn_layer_offset": 4, "use_mamba_kernels": true, "mamba_d_state": 16,
         "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256, "mamba_conv_bias": true,
         "mamba_proj_bias": false)"})},
          {"bamba", R"("attn_layer_indices": [1, 3], "num_hidden_layers": 4)",
           plus({types(4, {kLinear, kFull}), R"("vocab_size": 128000, "tie_word_embeddings": false,
         "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 4,
         "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
         "rms_norm_eps": 1e-05, "num_logits_to_keep": 1, "max_position_embeddings": 262144,
         "attn_layer_indices": [1, 3], "mamba_n_heads": 128, "mamba_d_head": 64,
         "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_conv": 4, "mamba_expand": 2,
         "mamba_chunk_size": 256, "mamba_conv_bias": true, "mamba_proj_bias": false,
         "time_step_min": 0.001, "time_step_max": 0.1,
         "time_step_limit": [0.0, {"__float__": "Infinity"}], "z_loss_coefficient": 0.0,
         "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default",
         "partial_rotary_factor": 0.5}, "partial_rotary_factor": 0.5, "attention_bias": false,
         "mlp_bias": false)"})},
          {"granitemoehybrid", "",
           plus({kPlainRope, types(32, {kLinear}), R"("vocab_size": 32000, "hidden_size": 4096,
         "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 32, "hidden_act": "silu", "max_position_embeddings": 2048,
         "rms_norm_eps": 1e-06, "tie_word_embeddings": false, "attention_bias": false,
         "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0,
         "attention_multiplier": 1.0, "num_local_experts": 8, "num_experts_per_tok": 2,
         "output_router_logits": false, "router_aux_loss_coef": 0.001,
         "shared_intermediate_size": 1024, "position_embedding_type": null,
         "mamba_n_heads": 128, "mamba_n_groups": 1, "mamba_d_state": 256, "mamba_d_head": 64,
         "mamba_d_conv": 4, "mamba_expand": 2, "mamba_chunk_size": 256, "mamba_conv_bias": true,
         "mamba_proj_bias": false, "time_step_min": 0.001, "time_step_max": 0.1,
         "time_step_limit": [0.0, {"__float__": "Infinity"}])"})},
          {"nemotron_h", R"("layers_block_type": ["mamba", "moe", "attention", "mlp"])",
           plus({types(4, {kLinear, "moe", kFull, "mlp"}),
                 R"("layers_block_type": ["linear_attention", "moe", "full_attention", "mlp"],
         "vocab_size": 131072, "hidden_size": 4096, "tie_word_embeddings": false,
         "num_logits_to_keep": 1, "num_attention_heads": 32, "num_key_value_heads": 8,
         "head_dim": 128, "max_position_embeddings": 4096, "attention_bias": false,
         "sliding_window": null, "intermediate_size": 21504, "mlp_hidden_act": "relu2",
         "mlp_bias": false, "use_mamba_kernels": true, "ssm_state_size": 128,
         "mamba_num_heads": 128, "mamba_head_dim": 64, "mamba_hidden_act": "silu",
         "n_groups": 8, "conv_kernel": 4, "expand": 2, "time_step_min": 0.001,
         "time_step_max": 0.1, "time_step_limit": [0.0, {"__float__": "Infinity"}],
         "time_step_floor": 0.0001, "use_conv_bias": true, "chunk_size": 128,
         "mamba_proj_bias": false, "mamba_ssm_cache_dtype": "float32", "n_routed_experts": 8,
         "n_shared_experts": 1, "moe_intermediate_size": 7688,
         "moe_shared_expert_intermediate_size": 7688, "moe_latent_size": null,
         "moe_shared_expert_overlap": true, "num_experts_per_tok": 2,
         "routed_scaling_factor": 1.0, "n_group": 1, "topk_group": 1, "norm_topk_prob": true,
         "num_nextn_predict_layers": 0, "mtp_layers_block_type": ["full_attention", "moe"],
         "use_bias": false, "layer_norm_epsilon": 1e-05, "residual_in_fp32": false,
         "hidden_dropout": 0.0, "rescale_prenorm_residual": true)"})},
          {"falcon_h1", R"("rope_theta": 10000)", plus({falcon_h1, types(32, {"hybrid"})})},
          {"phi4flash", "", R"("vocab_size": 51200, "hidden_size": 2560, "intermediate_size": 9216,
         "num_hidden_layers": 32, "num_attention_heads": 40, "num_key_value_heads": 4,
         "resid_pdrop": 0.0, "embd_pdrop": 0.0, "hidden_act": "silu",
         "max_position_embeddings": 4096, "layer_norm_eps": 1e-05, "tie_word_embeddings": true,
         "rope_theta": 10000.0, "sliding_window": [null, 2047, null, 2047, null, 2047, null, 2047,
         null, 2047, null, 2047, null, 2047, null, 2047, null, null, null, null, null, null, null,
         null, null, null, null, null, null, null, null, null], "mb_per_layer": 2,
         "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 160,
         "mamba_conv_bias": true, "mamba_proj_bias": false)"},
          {"hymba", R"("num_experts": 1)", R"("vocab_size": 65536, "tie_word_embeddings": false,
         "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
         "num_attention_heads": 32, "num_key_value_heads": 8, "hidden_act": "silu",
         "rms_norm_eps": 1e-06, "calc_logits_for_entire_prompt": false,
         "output_router_logits": false, "router_aux_loss_coef": 0.001, "sliding_window": null,
         "max_position_embeddings": 262144, "orig_max_position_embeddings": null,
         "num_experts_per_tok": 2, "num_experts": 1, "use_mamba_kernels": true,
         "mamba_d_state": 16, "mamba_d_conv": 4, "mamba_expand": 2, "mamba_dt_rank": 256,
         "mamba_conv_bias": true, "mamba_proj_bias": false, "mamba_inner_layernorms": true,
         "kv_reuse_every_i_layer": -1, "kv_reuse_group": null, "kv_weight_reuse": false,
         "global_attn_idx": null, "num_mamba": 1, "attn_implementation_new": "sdpa",
         "rope_type": null, "attn_hidden_size": -1, "kq_head_dim": -1, "v_head_dim": -1,
         "kq_norm": null, "rope": false, "rope_theta": 10000.0, "num_memory_tokens": 0,
         "memory_tokens_interspersed_every": 0)"},
          {"rwkv7", R"("decay_low_rank_dim": 128, "gate_low_rank_dim": 224, "a_low_rank_dim": 128,
         "v_low_rank_dim": 64)",
           R"("attn_mode": "chunk", "hidden_size": 2048, "hidden_ratio": 4,
         "intermediate_size": 8192, "num_hidden_layers": 24, "head_dim": 64, "num_heads": 32,
         "decay_low_rank_dim": null, "gate_low_rank_dim": null, "a_low_rank_dim": null,
         "v_low_rank_dim": null, "hidden_act": "sqrelu", "max_position_embeddings": 2048,
         "norm_first": true, "norm_bias": true, "norm_eps": 1e-05, "attn": null,
         "tie_word_embeddings": false, "fuse_norm": true, "fuse_cross_entropy": true,
         "vocab_size": 32000)"}};
}

TEST_CASE("a config with its class's defaults written out is the one without them") {
  for (const auto& group :
       {attention_defaults(), latent_defaults(), linear_defaults(), state_space_defaults()}) {
    for (const Spelling& s : group) {
      INFO(std::string(s.type));
      const std::string type = format("\"model_type\": \"{}\"", s.type);
      const std::string bare = settings_of(object({type, s.bare}));
      CHECK(says(bare, "stack = "));
      CHECK(settings_of(object({type, kCommon, s.full})) == bare);
    }
  }
}

}  // namespace
}  // namespace braid::testing
