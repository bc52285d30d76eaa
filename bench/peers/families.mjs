// Small random models of every architecture that braid writes as GGUF: logits of the Hugging Face
// folder in braid beside llama.cpp's of the GGUF file that braid made of it, in f32.
//
//   node families.mjs BRAID [NAME ...]     one JSON line each; exit status 1 where one is off
//
// Needs what run.sh installs and makes first: node-llama-cpp and a tokenizer of 8192 entries.

import fs from "node:fs";
import path from "node:path";
import { execFileSync } from "node:child_process";

const home = process.env.NODE_LLAMA_CPP ?? path.join(process.env.HOME ?? "/tmp", ".cache/braid-peers");
const here = path.dirname(new URL(import.meta.url).pathname);
const [braid, ...wanted] = process.argv.slice(2);
// llama.cpp keeps keys and values in f16, which leaves about 1e-6; a wrong layer leaves 1e-2 and more.
const farthest = 1e-5;  // mean KL

// Weights of a spread at which layers, norms and rotations all show in the logits.
const common = {
  hidden_size: 64, num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2, head_dim: 32,
  intermediate_size: 160, vocab_size: 8192, rms_norm_eps: 1e-6, rope_theta: 10000,
  tie_word_embeddings: false, max_position_embeddings: 512, hidden_act: "silu",
  initializer_range: 0.15, torch_dtype: "float32",
};
const experts = {
  num_experts: 8, num_experts_per_tok: 3, moe_intermediate_size: 48, norm_topk_prob: true,
  decoder_sparse_step: 1, mlp_only_layers: [],
};
const router = {
  n_routed_experts: 8, num_experts_per_tok: 3, moe_intermediate_size: 48, n_shared_experts: 1,
  first_k_dense_replace: 1, routed_scaling_factor: 2.5, norm_topk_prob: true,
};
const deepseek = {
  model_type: "deepseek_v3", num_key_value_heads: 4, head_dim: 16, kv_lora_rank: 32, q_lora_rank: 48,
  qk_nope_head_dim: 32, qk_rope_head_dim: 16, v_head_dim: 32, n_group: 1, topk_group: 1,
  moe_layer_freq: 1, topk_method: "noaux_tc", scoring_func: "sigmoid", ...router,
};
const linear = {
  head_dim: 32, full_attention_interval: 4, linear_num_key_heads: 2, linear_num_value_heads: 6,
  linear_key_head_dim: 32, linear_value_head_dim: 32, linear_conv_kernel_dim: 4,
  partial_rotary_factor: 0.25,
};
// llama.cpp rounds YaRN's limits outwards, gpt-oss does not: with this theta they are whole numbers.
const whole_limits = Math.exp(16 * Math.log(64 / (2 * Math.PI)) / 4);
const families = {
  llama: { model_type: "llama" },
  llama_tied: { model_type: "llama", tie_word_embeddings: true },
  llama_linear: { model_type: "llama", rope_scaling: { rope_type: "linear", factor: 4 } },
  llama3: {
    model_type: "llama", rope_theta: 500000,
    rope_scaling: { rope_type: "llama3", factor: 8, low_freq_factor: 1, high_freq_factor: 4,
      original_max_position_embeddings: 64 },
  },
  llama_yarn: {
    model_type: "llama",
    rope_scaling: { rope_type: "yarn", factor: 8, original_max_position_embeddings: 64 },
  },
  mistral: { model_type: "mistral", sliding_window: null },
  qwen2: { model_type: "qwen2", head_dim: 16 },
  qwen3: { model_type: "qwen3", attention_bias: false },
  qwen3_moe: { model_type: "qwen3_moe", attention_bias: false, ...experts },
  gemma3: {
    model_type: "gemma3_text", hidden_activation: "gelu_pytorch_tanh", tie_word_embeddings: true,
    num_hidden_layers: 7, sliding_window: 16, sliding_window_pattern: 6, rope_local_base_freq: 10000,
    rope_theta: 1000000, query_pre_attn_scalar: 32, final_logit_softcapping: null,
    attn_logit_softcapping: null, attention_bias: false,
  },
  qwen3_next: {
    model_type: "qwen3_next", head_dim: 32, partial_rotary_factor: 0.25, attention_bias: false,
    full_attention_interval: 4, linear_num_key_heads: 2, linear_num_value_heads: 4,
    linear_key_head_dim: 32, linear_value_head_dim: 32, linear_conv_kernel_dim: 4,
    shared_expert_intermediate_size: 48, ...experts,
  },
  kimi_linear: {
    model_type: "kimi_linear", num_key_value_heads: 4, head_dim: 48, kv_lora_rank: 32,
    q_lora_rank: null, qk_nope_head_dim: 32, qk_rope_head_dim: 16, v_head_dim: 32,
    mla_use_nope: true, num_experts: 8, num_experts_per_token: 3, num_shared_experts: 1,
    moe_intermediate_size: 48, first_k_dense_replace: 1, moe_layer_freq: 1, num_expert_group: 1,
    topk_group: 1, use_grouped_topk: true, moe_renormalize: true,
    moe_router_activation_func: "sigmoid", routed_scaling_factor: 2.446,
    linear_attn_config: { num_heads: 4, head_dim: 32, short_conv_kernel_size: 4,
      full_attn_layers: [4], kda_layers: [1, 2, 3] },
  },
  gpt_oss: {
    model_type: "gpt_oss", num_local_experts: 8, num_experts_per_tok: 3, attention_bias: true,
    sliding_window: 16, intermediate_size: 64, rope_theta: whole_limits,
    rope_scaling: { rope_type: "yarn", factor: 32, original_max_position_embeddings: 64, beta_fast: 32,
      beta_slow: 1, truncate: false },
  },
  deepseek_v3: {
    ...deepseek, n_routed_experts: 16, n_group: 4, topk_group: 2,
    rope_scaling: { type: "yarn", factor: 40, original_max_position_embeddings: 64, beta_fast: 32,
      beta_slow: 1, mscale: 1, mscale_all_dim: 1 },
  },
  kimi_k2: {
    ...deepseek, model_type: "kimi_k2",
    // Published with beta_fast 1, for which llama.cpp takes 32 whatever the file says.
    rope_scaling: { type: "yarn", factor: 32, original_max_position_embeddings: 64, beta_fast: 32,
      beta_slow: 1, mscale: 1, mscale_all_dim: 1 },
  },
  glm4_moe: {
    model_type: "glm4_moe", attention_bias: true, use_qk_norm: true, partial_rotary_factor: 0.5,
    n_group: 1, topk_group: 1, ...router,
  },
  qwen3_5: { model_type: "qwen3_5_text", ...linear },
  qwen3_5_moe: {
    intermediate_size: undefined, model_type: "qwen3_5_moe_text", num_experts: 8, num_experts_per_tok: 3, moe_intermediate_size: 48,
    shared_expert_intermediate_size: 48, ...linear,
  },
  gemma2: {
    model_type: "gemma2", hidden_activation: "gelu_pytorch_tanh", tie_word_embeddings: true,
    sliding_window: 16, query_pre_attn_scalar: 32, final_logit_softcapping: 30,
    attn_logit_softcapping: 50, attention_bias: false,
  },
  smollm3: { model_type: "smollm3", tie_word_embeddings: true, no_rope_layer_interval: 4, rope_theta: 2000000 },
  olmo2: { model_type: "olmo2", head_dim: 16 },
  olmo3: {
    model_type: "olmo3", head_dim: 16, sliding_window: 16,
    rope_scaling: { rope_type: "yarn", factor: 8, original_max_position_embeddings: 64 },
  },
  minimax_m2: {
    model_type: "minimax_m2", rotary_dim: 16, num_local_experts: 8, num_experts_per_tok: 3,
    intermediate_size: 48, use_qk_norm: true, qk_norm_type: "per_layer", scoring_func: "sigmoid",
    use_routing_bias: true,
  },
};

// The older spelling of GPT-2.
const gpt2 = {
  model_type: "gpt2", n_embd: 64, n_layer: 4, n_head: 4, n_inner: 160, n_positions: 512, vocab_size: 8192,
  layer_norm_epsilon: 1e-5, activation_function: "gelu_new", initializer_range: 0.15, torch_dtype: "float32",
};
const configs = {
  ...Object.fromEntries(Object.entries(families).map(([name, own]) => [name, { ...common, ...own }])),
  gpt2,
};

const out = fs.mkdtempSync(path.join(home, "families-"));
const run = (program, args) =>
  execFileSync(program, args, { cwd: out, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] });
const ids = Array.from({ length: 96 }, (_, i) => (i * 2654435761) % 2 ** 32 % 8192).join();

function beside(name) {
  const folder = path.join(out, name);
  fs.mkdirSync(`${folder}.config`);
  fs.writeFileSync(`${folder}.config/config.json`, JSON.stringify(configs[name]));
  run(braid, ["convert", "-m", `${folder}.config`, "--random", "1", "--dtype", "f32", "-o", folder]);
  for (const file of fs.readdirSync(path.join(home, "tokenizer")).filter((f) => f.endsWith(".json")))
    fs.copyFileSync(path.join(home, "tokenizer", file), path.join(folder, file));
  run(braid, ["convert", "-m", folder, "-o", `${folder}.gguf`, "--to", "gguf", "--weights", "f32"]);
  run(braid, ["logits", "-m", folder, "--tokens", ids, "--out", `${folder}.own`]);
  run("node", [path.join(here, "llama_cpp.mjs"), "logits", `${folder}.gguf`, "--tokens", ids, "--out",
    `${folder}.peer`]);
  return JSON.parse(run("node", [path.join(here, "compare_logits.mjs"), `${folder}.own`, `${folder}.peer`]));
}

for (const name of wanted.length > 0 ? wanted : Object.keys(configs)) {
  if (configs[name] === undefined) throw new Error(`${name} is none of ${Object.keys(configs).join(", ")}`);
  let line;
  try {
    line = beside(name);
  } catch (e) {
    line = { error: String(e.stderr || e.message).trim().split("\n").slice(-3).join(" | ") };
  }
  if (!(line.mean_kl <= farthest)) process.exitCode = 1;
  process.stdout.write(JSON.stringify({ family: name, ...line }) + "\n");
}
fs.rmSync(out, { recursive: true });
