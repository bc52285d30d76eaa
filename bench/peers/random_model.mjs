// A Hugging Face folder of random weights (bf16), large enough to measure: no real one can be
// fetched where this runs.
//
//   node random_model.mjs qwen3|qwen3_next FOLDER [vocab]

import fs from "node:fs";
import path from "node:path";

const [shape, folder, vocabText] = process.argv.slice(2);
const vocab = Number(vocabText ?? 8192);

// About half a billion parameters each; the hybrid has three linear layers to one of attention.
const configs = {
  qwen3: {
    model_type: "qwen3", architectures: ["Qwen3ForCausalLM"], hidden_size: 1024,
    num_hidden_layers: 28, num_attention_heads: 16, num_key_value_heads: 8, head_dim: 128,
    intermediate_size: 3072, rope_theta: 1000000, tie_word_embeddings: true,
    attention_bias: false, max_position_embeddings: 40960, rms_norm_eps: 1e-6, hidden_act: "silu",
  },
  qwen3_next: {
    model_type: "qwen3_next", architectures: ["Qwen3NextForCausalLM"], hidden_size: 1024,
    num_hidden_layers: 24, num_attention_heads: 8, num_key_value_heads: 2, head_dim: 256,
    intermediate_size: 3072, rope_theta: 10000000, partial_rotary_factor: 0.25,
    tie_word_embeddings: false, attention_bias: false, max_position_embeddings: 262144,
    rms_norm_eps: 1e-6, hidden_act: "silu", full_attention_interval: 4, linear_num_key_heads: 16,
    linear_num_value_heads: 16, linear_key_head_dim: 128, linear_value_head_dim: 128,
    linear_conv_kernel_dim: 4, num_experts: 16, num_experts_per_tok: 4, moe_intermediate_size: 384,
    shared_expert_intermediate_size: 384, norm_topk_prob: true, decoder_sparse_step: 1,
    mlp_only_layers: [],
  },
};

const c = { ...configs[shape], vocab_size: vocab, torch_dtype: "bfloat16" };
if (c.model_type === undefined) throw new Error(`${shape} is not one of ${Object.keys(configs)}`);

// A table of normal numbers; every row of a tensor is a window of it at a random place.
let state = 88172645463325252n;
function random() {
  state ^= (state << 13n) & 0xffffffffffffffffn;
  state ^= state >> 7n;
  state ^= (state << 17n) & 0xffffffffffffffffn;
  return Number(state >> 11n) / 2 ** 53;
}
const table = new Float32Array(1 << 20);
for (let i = 0; i < table.length; i += 2) {
  const r = Math.sqrt(-2 * Math.log(1 - random())), a = 2 * Math.PI * random();
  table[i] = r * Math.cos(a);
  table[i + 1] = r * Math.sin(a);
}

const tensors = [];
const add = (name, dims, fill) => tensors.push({ name, dims, fill });
const matrix = (name, rows, columns, gain = 1) =>
  add(name, [rows, columns], { std: gain / Math.sqrt(columns) });
const all = (name, dims, value) => add(name, dims, { value });

const D = c.hidden_size;
const zero = shape === "qwen3_next" ? 0 : 1;  // norms centred on zero
matrix("model.embed_tokens.weight", vocab, D, 2);
all("model.norm.weight", [D], zero);
if (!c.tie_word_embeddings) matrix("lm_head.weight", vocab, D, 2);
for (let i = 0; i < c.num_hidden_layers; ++i) {
  const p = `model.layers.${i}.`;
  all(p + "input_layernorm.weight", [D], zero);
  all(p + "post_attention_layernorm.weight", [D], zero);
  const linear = shape === "qwen3_next" && (i + 1) % c.full_attention_interval !== 0;
  const q = c.num_attention_heads * c.head_dim, kv = c.num_key_value_heads * c.head_dim;
  if (linear) {
    const keys = c.linear_num_key_heads * c.linear_key_head_dim;
    const values = c.linear_num_value_heads * c.linear_value_head_dim;
    const a = p + "linear_attn.";
    // Keys resemble queries, as in trained layers: the product of unrelated ones is near zero, and
    // the norm behind it would make a sign of its rounding.
    const d = c.linear_key_head_dim, group = (2 * keys + 2 * values) / c.linear_num_key_heads;
    const like = (row) => (row % group >= d && row % group < 2 * d ? row - d : -1);
    add(a + "in_proj_qkvz.weight", [2 * keys + 2 * values, D], { std: 1 / Math.sqrt(D), like });
    matrix(a + "in_proj_ba.weight", 2 * c.linear_num_value_heads, D);
    add(a + "conv1d.weight", [2 * keys + values, 1, c.linear_conv_kernel_dim], { std: 0.1, last: 1 });
    add(a + "A_log", [c.linear_num_value_heads], { low: 0, high: Math.log(16) });
    add(a + "dt_bias", [c.linear_num_value_heads], { low: -6.9, high: -2.25 });
    all(a + "norm.weight", [c.linear_value_head_dim], 1);
    matrix(a + "out_proj.weight", D, values);
  } else {
    const a = p + "self_attn.";
    matrix(a + "q_proj.weight", shape === "qwen3_next" ? 2 * q : q, D);
    matrix(a + "k_proj.weight", kv, D);
    matrix(a + "v_proj.weight", kv, D);
    matrix(a + "o_proj.weight", D, q);
    all(a + "q_norm.weight", [c.head_dim], zero);
    all(a + "k_norm.weight", [c.head_dim], zero);
  }
  const mlp = (at, F) => {
    matrix(at + "gate_proj.weight", F, D);
    matrix(at + "up_proj.weight", F, D);
    matrix(at + "down_proj.weight", D, F);
  };
  if (c.num_experts === undefined) {
    mlp(p + "mlp.", c.intermediate_size);
    continue;
  }
  matrix(p + "mlp.gate.weight", c.num_experts, D);
  for (let e = 0; e < c.num_experts; ++e) mlp(`${p}mlp.experts.${e}.`, c.moe_intermediate_size);
  mlp(p + "mlp.shared_expert.", c.shared_expert_intermediate_size);
  matrix(p + "mlp.shared_expert_gate.weight", 1, D);
}

const count = (dims) => dims.reduce((a, b) => a * b, 1);
const header = { __metadata__: { format: "pt" } };
let at = 0;
for (const t of tensors) {
  const bytes = 2 * count(t.dims);
  header[t.name] = { dtype: "BF16", shape: t.dims, data_offsets: [at, at + bytes] };
  at += bytes;
}
fs.mkdirSync(folder, { recursive: true });
fs.writeFileSync(path.join(folder, "config.json"), JSON.stringify(c, null, 2) + "\n");
const text = JSON.stringify(header);
const padded = text + " ".repeat((8 - (text.length % 8)) % 8);
const out = fs.openSync(path.join(folder, "model.safetensors.part"), "w");
const length = Buffer.alloc(8);
length.writeBigUInt64LE(BigInt(padded.length));
fs.writeSync(out, length);
fs.writeSync(out, padded);
const bf16 = (v) => {
  const bits = new Uint32Array(new Float32Array([v]).buffer)[0];
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16;
};
for (const t of tensors) {
  const n = count(t.dims), width = t.dims.length === 2 ? t.dims[1] : n;
  const taps = t.dims[t.dims.length - 1];
  const values = new Uint16Array(n);
  if (t.fill.std !== undefined) {
    const scaled = new Uint32Array(table.map((v) => v * t.fill.std).buffer);
    const starts = [];
    for (let row = 0; row < n; row += width) {
      const start = Math.floor(random() * (table.length - width));
      starts.push(start);
      for (let j = 0; j < width; ++j) values[row + j] = (scaled[start + j] + 0x8000) >>> 16;
      const other = t.fill.like?.(row / width) ?? -1;
      for (let j = 0; other >= 0 && j < width; ++j)
        values[row + j] = bf16(t.fill.std * (0.8 * table[starts[other] + j] + 0.6 * table[start + j]));
    }
    // A convolution that mostly looks at the token itself.
    for (let j = taps - 1; t.fill.last !== undefined && j < n; j += taps) values[j] = bf16(t.fill.last);
  } else {
    for (let j = 0; j < n; ++j)
      values[j] = bf16(t.fill.value ?? t.fill.low + random() * (t.fill.high - t.fill.low));
  }
  fs.writeSync(out, new Uint8Array(values.buffer));
}
fs.closeSync(out);
fs.renameSync(path.join(folder, "model.safetensors.part"), path.join(folder, "model.safetensors"));
process.stdout.write(JSON.stringify({ folder, parameters: at / 2 }) + "\n");
