// Quirks of published config.json files: keys that change nothing, keys that say a thing twice,
// defaults, towers beside the language model, quantised weights.

#include <doctest/doctest.h>

#include <string>

#include "braid/base/format.h"
#include "braid/testing/family_checkpoints.h"

namespace braid::testing {
namespace {

TEST_CASE("published files with keys that change nothing are read as without them") {
  const std::string outer = R"({"model_type": "qwen3_5", "vision_config": {"depth": 27},
      "image_token_id": 248056, "video_token_id": 248057, "vision_start_token_id": 248053,
      "vision_end_token_id": 248054, "language_model_only": false, "tie_word_embeddings": true,
      "text_config": {"model_type": "qwen3_5_text", "num_hidden_layers": 4)";
  const std::string slides = R"("use_sliding_window": true, "sliding_window": 512)";
  const std::string qwen = R"({"model_type": "qwen2", "num_hidden_layers": 24)";
  const std::string lfm = R"({"model_type": "lfm2", "num_hidden_layers": 2, "layer_types": ["conv",
      "full_attention"])";
  for (const auto& [plain, published] : std::vector<std::pair<std::string, std::string>>{
           // SmolLM2
           {R"({"model_type": "llama"})",
            R"({"model_type": "llama", "is_llama_config": true, "rope_interleaved": false,
                "pretraining_tp": 1, "transformers.js_config": {"kv_cache_dtype": {"q4f16":
                "float16"}}})"},
           // Llama 1, Vicuna 1.5 16k
           {R"({"model_type": "llama"})",
            R"({"model_type": "llama", "max_sequence_length": 2048})"},
           // Jamba 0.1, Bamba
           {R"({"model_type": "jamba"})", R"({"model_type": "jamba", "n_ctx": 262144})"},
           {R"({"model_type": "bamba"})", R"({"model_type": "bamba", "use_mamba_kernels": true})"},
           // Qwen2.5 0.5B, DeepSeek-R1-Distill-Qwen
           {qwen + "}", qwen + R"(, "use_mrope": false, "max_window_layers": 24,
                "sliding_window": 32768, "use_sliding_window": false})"},
           // Qwen3-Coder
           {R"({"model_type": "qwen3_moe"})",
            R"({"model_type": "qwen3_moe", "qkv_bias": false, "use_qk_norm": true,
                "shared_expert_intermediate_size": 0, "max_window_layers": 62,
                "sliding_window": null, "use_sliding_window": false})"},
           // Gemma 2 9B
           {R"({"model_type": "gemma2"})",
            R"({"model_type": "gemma2", "sliding_window": 4096, "sliding_window_size": 4096,
                "hidden_act": "gelu_pytorch_tanh", "cache_implementation": "hybrid"})"},
           // SmolLM3
           {R"({"model_type": "smollm3"})",
            R"({"model_type": "smollm3", "max_window_layers": 28, "use_sliding_window": false,
                "sliding_window": null, "pretraining_tp": 2})"},
           // GPT-2 medium to XL
           {R"({"model_type": "gpt2"})",
            R"({"model_type": "gpt2", "n_special": 0, "predict_special_tokens": true,
                "output_past": true, "gradient_checkpointing": false, "_num_labels": 1})"},
           // Qwen3.5
           {outer + "}}", outer + R"(, "attn_output_gate": true, "output_gate_type": "swish",
                "mlp_only_layers": [], "full_attention_interval": 4, "mtp_num_hidden_layers": 1,
                "mtp_use_dedicated_embeddings": false, "mamba_ssm_dtype": "float32",
                "tie_word_embeddings": true}})"},
           // A dump of everything that version 4 knew.
           {lfm + "}", lfm + R"(, "early_stopping": false, "num_beam_groups": 1,
                "diversity_penalty": 0.0, "length_penalty": 1.0, "no_repeat_ngram_size": 0,
                "encoder_no_repeat_ngram_size": 0, "bad_words_ids": null, "output_scores": false,
                "return_dict_in_generate": false, "forced_bos_token_id": null,
                "remove_invalid_values": false, "exponential_decay_length_penalty": null,
                "suppress_tokens": null, "begin_suppress_tokens": null, "torchscript": false})"},
           // An uneven null: as many key heads as there are queries'; a head of the width's part.
           {R"({"model_type": "mistral", "num_key_value_heads": 32})",
            R"({"model_type": "mistral", "num_key_value_heads": null})"},
           {R"({"model_type": "qwen3", "hidden_size": 1024, "num_attention_heads": 16,
                "num_key_value_heads": 16, "head_dim": 64})",
            R"({"model_type": "qwen3", "hidden_size": 1024, "num_attention_heads": 16,
                "head_dim": null, "num_key_value_heads": null})"},
           {R"({"model_type": "deepseek_v3", "n_shared_experts": 0})",
            R"({"model_type": "deepseek_v3", "n_shared_experts": null})"},
           // Every layer slides where nothing says from which on.
           {R"({"model_type": "qwen3_moe", "max_window_layers": 0, )" + slides + "}",
            R"({"model_type": "qwen3_moe", )" + slides + "}"},
           // Mamba's own words of version 5.
           {R"({"model_type": "granitemoehybrid", "num_hidden_layers": 2,
                "layer_types": ["mamba", "attention"]})",
            R"({"model_type": "granitemoehybrid", "num_hidden_layers": 2,
                "layer_types": ["linear_attention", "full_attention"],
                "layers_block_type": ["mamba", "attention"]})"},
           {R"({"model_type": "bamba", "num_hidden_layers": 2, "attn_layer_indices": [1]})",
            R"({"model_type": "bamba", "num_hidden_layers": 2,
                "layers_block_type": ["mamba", "attention"]})"},
           {R"({"model_type": "nemotron_h", "hybrid_override_pattern": "M*", "n_groups": 4,
                "conv_kernel": 3, "use_conv_bias": false, "time_step_limit": [0.001, 0.1]})",
            R"({"model_type": "nemotron_h", "layers_block_type": ["mamba", "attention"],
                "mamba_n_groups": 4, "mamba_d_conv": 3, "mamba_conv_bias": false,
                "mamba_dt_limit": [0.001, 0.1], "mamba_expand": 2, "mamba_chunk_size": 128,
                "mamba_dt_min": 0.001, "mamba_dt_max": 0.1, "mamba_dt_init_floor": 0.0001})"},
           // rope_scaling holds what rope_parameters does.
           {R"({"model_type": "glm4_moe", "head_dim": 128, "partial_rotary_factor": 0.25,
                "rope_theta": 1000000})",
            R"({"model_type": "glm4_moe", "head_dim": 128, "rope_scaling": {"rope_type": "default",
                "rope_theta": 1000000, "partial_rotary_factor": 0.25}})"},
           {R"({"model_type": "minimax", "num_hidden_layers": 2, "layer_types":
                ["linear_attention", "full_attention"]})",
            R"({"model_type": "minimax", "num_hidden_layers": 2, "attn_type_list": [0, 1]})"}}) {
    INFO(published);
    const std::string settings = settings_of(plain);
    CHECK(says(settings, "stack = "));
    CHECK(settings_of(published) == settings);
  }
}

TEST_CASE("defaults that a config leaves out are its class's") {
  const auto stack = [](const char* json) {
    return print_stack(read_config(parse_config(json), "config.json").model.settings.stack);
  };
  const std::string gpt_oss = stack(R"({"model_type": "gpt_oss", "num_hidden_layers": 2})");
  CHECK(says(gpt_oss, "rope_scaling=yarn:32:4096:32:1:false:1.3465735902799727"));
  CHECK(says(stack(R"({"model_type": "phi4flash"})"), "window=2047"));
  CHECK(says(stack(R"({"model_type": "hymba", "num_experts": 1})"), "rope=false"));
  CHECK(stack(R"({"model_type": "minimax", "num_hidden_layers": 2})").starts_with("gqa{"));
  CHECK(says(stack(R"({"model_type": "qwen3_5_text"})"), "gqa{kv_heads=4"));
  CHECK(says(stack(R"({"model_type": "gemma3_text", "num_hidden_layers": 6, "rope_theta": 5e5})"),
             "gqa{kv_heads=4,rope_theta=5e+05"));
  CHECK(says(stack(R"({"model_type": "gemma3_text", "rope_theta": 1e6, "rope_parameters":
                      {"full_attention": {"rope_type": "default"},
                       "sliding_attention": {"rope_type": "default"}}})"),
             "5 x (gqa{kv_heads=4,qk_norm"));
  CHECK(!says(stack(R"({"model_type": "gemma3_text", "sliding_window": null})"), "window"));
  CHECK(says(stack(R"({"model_type": "kimi_linear", "num_hidden_layers": 4, "rms_norm_eps": 1e-5,
                      "routed_scaling_factor": 2, "num_shared_experts": 0, "mla_use_nope": true,
                      "norm_topk_prob": false, "mlp_layer_types": ["sparse", "dense", "dense",
                      "dense"], "linear_num_heads": 8, "linear_head_dim": 64, "layer_types":
                      ["linear_attention", "linear_attention", "linear_attention",
                      "full_attention"]})"),
             "kda{heads=8,head_dim=64}, moe{experts=256,top_k=8,ffn=1024,router=sigmoid,"
             "renormalise=false,scale=2}"));
}

TEST_CASE("what a config says of two things at once must agree, and what is unknown is named") {
  const auto refused = [](const std::string& json, const char* what) {
    INFO(json);
    const std::string error = config_error(json);
    INFO(error);
    CHECK(says(error, what));
  };
  const auto of = [](const char* type, const char* keys) {
    return format(R"({{"model_type": "{}", {}}})", type, keys);
  };
  refused(of("gemma2", R"("sliding_window_size": 512)"), "sliding_window_size is 512");
  refused(of("smollm3", R"("max_window_layers": 28, "use_sliding_window": true)"),
          "max_window_layers");
  refused(of("llama", R"("rope_interleaved": true)"), "rope_interleaved is true");
  refused(of("llama", R"("num_hidden_layers": 1, "layer_types": ["sliding_attention"])"),
          "sliding_attention");
  refused(of("llama", R"("rope_theta": 5e5, "rope_parameters": {"rope_theta": 1e6})"),
          "rope_theta is 500000, rope_parameters says 1000000");
  refused(of("llama", R"("rope_parameters": {"rope_theta": 1e6}, "rope_scaling":
             {"rope_type": "linear", "factor": 2})"),
          "rope_parameters and rope_scaling");
  refused(of("glm4_moe", R"("head_dim": 128, "partial_rotary_factor": 0.5, "rope_scaling":
             {"partial_rotary_factor": 1})"),
          "partial_rotary_factor is 0.5");
  refused(of("qwen2", R"("use_mrope": true)"), "use_mrope");
  refused(of("qwen3_moe", R"("qkv_bias": true)"), "qkv_bias");
  refused(of("qwen3_moe", R"("shared_expert_intermediate_size": 8)"),
          "shared_expert_intermediate_size is 8; only 0");
  refused(of("qwen3_moe", R"("use_sliding_window": true, "max_window_layers": 48)"),
          "max_window_layers");
  refused(of("qwen3_next", R"("output_gate_type": "sigmoid")"), "output_gate_type");
  refused(of("qwen3_5_moe_text", R"("mlp_only_layers": [1])"), "mlp_only_layers");
  refused(of("qwen3_5_moe_text", R"("norm_topk_prob": false)"), "norm_topk_prob");
  refused(of("gemma3_text", R"("rope_parameters": {"rope_theta": 1e6})"), "by layer type");
  refused(of("olmo3", R"("hidden_size": 4096)"), "rope_theta is missing");
  refused(of("gpt_oss", R"("rope_scaling": null)"), "rope_scaling or rope_parameters is null");
  refused(of("gpt2", R"("n_special": 3)"), "n_special is 3");
  refused(of("deepseek_v3", R"("mlp_bias": true)"), "mlp_bias");
  refused(of("deepseek_v3", R"("num_hidden_layers": 1, "layer_types": ["indexed_attention"])"),
          "indexed_attention");
  refused(of("minimax_m2", R"("hidden_size": 3072)"), "rotary_dim is missing");
  refused(of("minimax_m2", R"("rotary_dim": 64, "partial_rotary_factor": 1.0)"),
          "rotary_dim is 64 of 128");
  refused(of("minimax_m2", R"("rotary_dim": 64, "sliding_window": 512)"), "sliding_window is 512");
  refused(of("minimax", R"("rotary_dim": 64, "partial_rotary_factor": 1.0)"),
          "rotary_dim is 64 of 128");
  refused(of("lfm2", R"("theta": 1e6, "rope_theta": 1e4)"), "theta is 1000000, rope_theta 10000");
  refused(of("minimax", R"("num_hidden_layers": 2, "attn_type_list": [0, 1], "layer_types":
             ["full_attention", "full_attention"])"),
          "layer_types and attn_type_list");
  refused(of("jamba", R"("num_hidden_layers": 2, "layer_types": ["mamba", "attention"])"),
          "layer 1");
  refused(of("bamba", R"("num_hidden_layers": 2, "attn_layer_indices": [0], "layer_types":
             ["mamba", "attention"])"),
          "differ in layer 0");
  refused(of("granitemoehybrid", R"("num_hidden_layers": 1, "layer_types": ["mamba"],
             "layers_block_type": ["attention"])"),
          "layers_block_type differ");
  refused(of("mamba", R"("num_hidden_layers": 1, "layer_types": ["attention"])"), "\"attention\"");
  refused(of("falcon_h1", R"("rope_theta": 1e4, "num_hidden_layers": 1, "layer_types": ["mamba"])"),
          "\"mamba\"");
  refused(of("nemotron_h", R"("hybrid_override_pattern": "M", "use_conv_bias": true,
             "mamba_conv_bias": false)"),
          "mamba_conv_bias");
  refused(of("nemotron_h", R"("hybrid_override_pattern": "M", "time_step_limit": [0, 1],
             "mamba_dt_limit": [0, 2])"),
          "mamba_dt_limit");
  refused(of("phi4flash", R"("num_hidden_layers": 4, "sliding_window": [null, 5, 5, null])"),
          "sliding_window is [null,5,5,null]");
  const char* kimi = R"("num_hidden_layers": 2, "rms_norm_eps": 1e-5, "num_shared_experts": 1,
      "routed_scaling_factor": 2, "first_k_dense_replace": 1, "layer_types":
      ["linear_attention", "full_attention"])";
  refused(of("kimi_linear", kimi), "mla_use_nope");
  refused(of("kimi_linear",
             format(R"({}, "mla_use_nope": true, "attn_res_block_size": 4)", kimi).c_str()),
          "attn_res_block_size is 4");
  refused(of("kimi_linear", format(R"({}, "mla_use_nope": true, "linear_attn_config":
             {{"kda_layers": [2], "full_attn_layers": [1]}})",
                                   kimi)
                                .c_str()),
          "layer_types and linear_attn_config");
  refused(of("kimi_linear", R"("rms_norm_eps": 1e-5)"), "linear_attn_config");
  refused(of("hymba", R"("rope": true)"), "num_experts is 16");
}

TEST_CASE("what stands outside text_config describes other towers, or is refused") {
  const std::string inner = R"("text_config": {"model_type": "gemma3_text", "hidden_size": 1152,
      "vocab_size": 262144)";
  const std::string start = R"({"model_type": "gemma3", "vision_config": {"hidden_size": 8}, )";
  const auto outer = [&](const char* keys) { return start + keys + inner + "}}"; };
  CHECK(config_error(outer("")) == "");
  CHECK(config_error(outer(R"("vocab_size": 262144, )")) == "");
  CHECK(says(config_error(outer(R"("vocab_size": 262208, )")), "vocab_size = 262208"));
  CHECK(says(config_error(outer(R"("rope_theta": 5, )")), "rope_theta = 5"));
  const auto tied = [&](const char* keys, const char* text) {
    const std::string json = start + keys + inner + text + "}}";
    const FamilyModel model = read_config(parse_config(json), "config.json").model;
    return model.tie_given ? (model.settings.tie_embeddings ? "tied" : "apart") : "as stored";
  };
  CHECK(std::string(tied("", "")) == "as stored");
  CHECK(std::string(tied(R"("tie_word_embeddings": false, )", "")) == "apart");
  CHECK(std::string(tied("", R"(, "tie_word_embeddings": false)")) == "apart");
  CHECK(std::string(tied(R"("tie_word_embeddings": true, )", R"(, "tie_word_embeddings": true)")) ==
        "tied");
  CHECK(std::string(tied(R"("tie_word_embeddings": true, )",
                         R"(, "tie_word_embeddings": false)")) == "as stored");
}

TEST_CASE("quantised weights are read in two forms; others are refused by name") {
  const auto with = [](const char* keys) {
    return format(R"({{"model_type": "qwen3", {}}})", keys);
  };
  const auto block = [&](const char* keys) {
    return read_config(parse_config(with(keys)), "config.json").fp8_block;
  };
  CHECK(block(R"("quantization_config": {"activation_scheme": "dynamic", "fmt": "e4m3",
                 "quant_method": "fp8", "scale_fmt": "ue8m0", "weight_block_size": [64, 64],
                 "modules_to_not_convert": ["lm_head"]})") == 64);
  CHECK(block(R"("quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128],
                 "ignored_layers": ["lm_head"]})") == 128);
  CHECK(block(R"("quantization_config": {"quant_method": "mxfp4"})") == 128);
  const auto refused = [&](const char* keys, const char* what) {
    const std::string error = config_error(with(keys));
    INFO(error);
    CHECK(says(error, what));
  };
  for (const char* method : {"gptq", "awq", "bitsandbytes", "compressed-tensors", "modelopt"})
    refused(format(R"("quantization_config": {{"quant_method": "{}", "bits": 4}})", method).c_str(),
            format("quant_method \"{}\"", method).c_str());
  refused(R"("quantization_config": {"load_in_8bit": true})", "load_in_8bit");
  refused(R"("quantization_config": {"quant_method": "fp8", "activation_scheme": "static"})",
          "without weight_block_size");
  refused(R"("compression_config": {"format": "pack-quantized"})", "compressed-tensors");
  refused(R"("quantization": {"bits": 4, "group_size": 64})", "MLX");
}

}  // namespace
}  // namespace braid::testing
