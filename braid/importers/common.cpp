#include "braid/importers/common.h"

#include <algorithm>
#include <cmath>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/stack/compress.h"

namespace braid {

OptionList& OptionList::add(const char* key, int64_t value, int64_t fallback) {
  if (value != fallback) options_.set(key, format("{}", value));
  return *this;
}
OptionList& OptionList::add(const char* key, double value, double fallback) {
  if (value != fallback) options_.set(key, shortest_text(value));
  return *this;
}
OptionList& OptionList::add(const char* key, bool value, bool fallback) {
  if (value != fallback) options_.set(key, value ? "true" : "false");
  return *this;
}
OptionList& OptionList::add(const char* key, const std::string& value,
                            const std::string& fallback) {
  if (value != fallback) options_.set(key, value);
  return *this;
}

LayerSpec gqa_layer(const GqaSettings& g, const ModelSettings& model) {
  OptionList o;
  o.add("heads", g.heads, model.heads);
  o.add("kv_heads", g.kv_heads, g.heads);
  o.add("head_dim", g.head_dim, model.head_dim);
  o.add("rope", g.rope.on, true);
  if (g.rope.on) {
    o.add("rope_theta", g.rope.theta, 10000.0);
    o.add("rotary", g.rope.partial, 1.0);
    o.add("interleaved", g.interleaved, false);
    o.add("rope_scaling", g.rope.scaling, "");
  }
  o.add("qk_norm", g.qk_norm, "none");
  o.add("one_plus", g.one_plus, false);
  o.add("window", g.window, 0);
  o.add("gate", g.gate, false);
  o.add("bias", g.bias, "none");
  o.add("sinks", g.sinks, false);
  o.add("scale", g.scale, 0.0);
  o.add("softcap", g.softcap, 0.0);
  o.add("chunk", g.chunk, 0);
  o.add("out_scale", g.out_scale, 1.0);
  return o.layer("gqa");
}

void read_heads(ConfigReader& config, const HeadDefaults& defaults, FamilyModel& model,
                GqaSettings& gqa) {
  gqa.heads = config.integer("num_attention_heads", defaults.heads, 1 << 16);
  // null is as many as there are queries' and head_dim of the width, whatever absence means.
  const bool own_kv = defaults.kv_heads > 0 && !config.explicit_null("num_key_value_heads");
  gqa.kv_heads =
      config.integer("num_key_value_heads", own_kv ? defaults.kv_heads : gqa.heads, 1 << 16);
  if (gqa.heads < 1 || gqa.kv_heads < 1 || gqa.heads % gqa.kv_heads != 0) {
    config.fail(format("num_attention_heads is {}, not a multiple of num_key_value_heads = {}",
                       gqa.heads, gqa.kv_heads));
  }
  const std::optional<int64_t> given = config.maybe_integer({"head_dim"}, 1 << 16);
  const bool own_dim = defaults.head_dim > 0 && !config.explicit_null("head_dim");
  gqa.head_dim = given.value_or(own_dim ? defaults.head_dim : model.settings.width / gqa.heads);
  if (gqa.head_dim < 1) config.fail(format("head_dim is {}", gqa.head_dim));
  if (!given && !own_dim && model.settings.width % gqa.heads != 0) {
    config.fail(
        format("num_attention_heads = {} does not divide hidden_size = {}, and there is no "
               "head_dim",
               gqa.heads, model.settings.width));
  }
  model.settings.heads = gqa.heads;
  model.settings.head_dim = gqa.head_dim;
}

void read_model(ConfigReader& config, const ModelDefaults& d, FamilyModel& model) {
  ModelSettings& s = model.settings;
  s.width = config.integer("hidden_size", d.width, 1 << 20);
  s.vocab = config.integer("vocab_size", d.vocab);
  if (s.width < 1) config.fail("hidden_size is 0");
  if (s.vocab < 2) config.fail(format("vocab_size is {}; at least 2", s.vocab));
  s.norm_eps = config.real(d.eps_key, d.eps);
  if (!(s.norm_eps > 0)) config.fail(format("{} is {}, not positive", d.eps_key, s.norm_eps));
  const std::optional<bool> tied = config.tied_embeddings();
  model.tie_given = tied.has_value();
  s.tie_embeddings = tied.value_or(d.tied);
  model.layers = config.integer("num_hidden_layers", d.layers, kMostLayers);
  if (model.layers < 1) config.fail("num_hidden_layers is 0");
  s.max_position_embeddings =
      config.integer("max_position_embeddings", d.max_positions, int64_t{1} << 40);
}

LayerSpec swiglu_layer(int64_t ffn, const char* act, bool bias) {
  OptionList o;
  o.add("ffn", ffn, 0);
  o.add("act", std::string(act), "silu");
  o.add("bias", bias, false);
  return o.layer("swiglu");
}

LayerSpec moe_layer(const MoeSettings& m) {
  OptionList o;
  o.add("experts", m.experts, 8);
  o.add("top_k", m.top_k, 2);
  o.add("ffn", m.ffn, 0);
  o.add("router", std::string(m.sigmoid ? "sigmoid" : "softmax"), "softmax");
  o.add("renormalise", m.renormalise, true);
  o.add("scale", m.scale, 1.0);
  o.add("shared", m.shared, 0);
  o.add("shared_gate", m.shared_gate, false);
  o.add("balance", std::string(m.correction_bias ? "bias" : "none"), "bias");
  o.add("groups", m.groups, 1);
  o.add("topk_groups", m.topk_groups, 1);
  o.add("router_bias", m.router_bias, false);
  o.add("expert_bias", m.expert_bias, false);
  if (m.clamped) {
    o.add("act", std::string("clamped"), "silu");
    o.add("limit", m.limit, 7.0);
    o.add("alpha", m.alpha, 1.702);
  }
  if (!m.gated) o.add("act", std::string("relu2"), "silu").add("gated", false, true);
  return o.layer("moe");
}

void read_experts(ConfigReader& config, int64_t experts, int64_t top_k, int64_t ffn,
                  MoeSettings& m) {
  m.experts =
      config.integer({"num_experts", "num_local_experts", "n_routed_experts"}, experts, 1 << 16);
  m.top_k = config.integer(
      {"num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts"}, top_k,
      1 << 16);
  m.ffn = ffn;
  if (m.experts < 1 || m.top_k < 1 || m.top_k > m.experts)
    config.fail(format("{} of {} experts for every token", m.top_k, m.experts));
  if (m.ffn < 1) config.fail("the experts' intermediate size is 0");
}

void read_sigmoid_router(ConfigReader& config, const RouterDefaults& d, MoeSettings& m) {
  config.require_text("topk_method", {"noaux_tc"});
  config.require_text("scoring_func", {"sigmoid"});
  m.sigmoid = true;
  m.correction_bias = true;
  m.renormalise = config.boolean("norm_topk_prob", true);
  m.scale = config.real("routed_scaling_factor", d.scale);
  m.groups = config.integer("n_group", d.groups, 1 << 16);
  m.topk_groups = config.integer("topk_group", d.topk_groups, 1 << 16);
  const bool none = config.explicit_null("n_shared_experts");
  m.shared = none ? 0 : config.integer("n_shared_experts", 1, 1 << 12) * m.ffn;
}

std::vector<bool> qwen_sparse_layers(ConfigReader& config, int64_t layers) {
  const int64_t step = config.integer("decoder_sparse_step", 1);
  if (step < 1) config.fail("decoder_sparse_step is 0");
  const std::vector<int64_t> dense = config.integers("mlp_only_layers");
  std::vector<bool> out;
  for (int64_t i = 0; i < layers; ++i) {
    const bool listed = std::find(dense.begin(), dense.end(), i) != dense.end();
    out.push_back(!listed && (i + 1) % step == 0);
  }
  return out;
}

std::vector<std::string> read_mlp_layer_types(ConfigReader& config, int64_t layers) {
  const std::vector<std::string> kinds = config.texts("mlp_layer_types");
  if (!kinds.empty() && std::ssize(kinds) != layers)
    config.fail(format("mlp_layer_types has {} entries for {} layers", kinds.size(), layers));
  for (const std::string& k : kinds) {
    if (k != "dense" && k != "sparse")
      config.fail(format("mlp_layer_types holds \"{}\"; dense and sparse are known", printable(k)));
  }
  return kinds;
}

LayerSpec mla_layer(int64_t heads, int64_t q_lora_rank, int64_t kv_lora_rank, int64_t nope,
                    int64_t rope, int64_t value, const RopeSettings& positions, bool interleaved,
                    bool bias) {
  OptionList o;
  o.add("heads", heads, -1);  // said always: qk_nope_head_dim alone would make them share the width
  o.add("q_lora_rank", q_lora_rank, 0);
  o.add("kv_lora_rank", kv_lora_rank, -1);
  o.add("qk_nope_head_dim", nope, -1);
  o.add("qk_rope_head_dim", rope, -1);
  o.add("v_head_dim", value, -1);
  o.add("rope", positions.on, true);
  if (positions.on) {
    o.add("rope_theta", positions.theta, 10000.0);
    o.add("interleaved", interleaved, true);
    o.add("rope_scaling", positions.scaling, "");
  }
  if (positions.mscale != 1) {
    const double plain = 1 / std::sqrt(static_cast<double>(nope + rope));
    o.add("scale", plain * positions.mscale * positions.mscale, 0.0);
  }
  o.add("bias", bias, false);
  return o.layer("mla");
}

LayerSpec mamba_layer(const MambaSettings& m, int64_t width) {
  OptionList o;
  o.add("state", m.state, 16);
  o.add("conv", m.conv, 4);
  if (m.inner % width == 0) {
    o.add("expand", m.inner / width, 2);
  } else {
    o.add("inner", m.inner, 0);
  }
  o.add("dt_rank", m.dt_rank, (width + 15) / 16);
  o.add("conv_bias", m.conv_bias, true);
  o.add("bias", m.bias, false);
  o.add("norms", m.norms, false);
  o.add("norm_gains", m.norm_gains, true);
  o.add("norm_eps", m.norm_eps, 0.0);
  return o.layer("mamba");
}

LayerSpec mamba2_layer(const Mamba2Settings& m, int64_t width) {
  OptionList o;
  o.add("state", m.state, 128);
  o.add("head_dim", m.head_dim, 64);
  const int64_t inner = m.heads * m.head_dim;
  if (inner % width == 0) {
    o.add("expand", inner / width, 2);
  } else {
    o.add("heads", m.heads, 0);
  }
  o.add("groups", m.groups, 1);
  o.add("conv", m.conv, 4);
  o.add("conv_bias", m.conv_bias, true);
  o.add("bias", m.bias, false);
  o.add("norm", m.norm, "gated");
  o.add("norm_groups", m.norm_groups == m.groups ? 0 : m.norm_groups, 0);
  o.add("norm_eps", m.norm_eps, 0.0);
  o.add("dt_min", m.dt_min, 0.0);
  o.add("dt_max", m.dt_max, 0.0);
  o.add("channel_skip", m.channel_skip, false);
  o.add("in_scales", m.in_scales, "");
  o.add("out_scale", m.out_scale, 1.0);
  return o.layer("mamba2");
}

Mamba2Settings read_mamba2_sizes(ConfigReader& c, const Mamba2Keys& keys, Mamba2Settings m) {
  m.heads = c.integer(keys.heads, m.heads);
  if (m.heads < 1) c.fail(format("{} is 0", keys.heads));
  if (m.head_dim > 0) m.head_dim = c.integer(keys.head_dim, m.head_dim);
  m.groups = c.integer(keys.groups, m.groups);
  m.state = c.integer(keys.state, m.state);
  m.conv = c.integer(keys.conv, m.conv);
  m.conv_bias = c.boolean(keys.conv_bias, m.conv_bias);
  m.bias = c.boolean(keys.bias, m.bias);
  return m;
}

Mamba2Settings read_bamba_mamba2(ConfigReader& c, int64_t inner, const char* inner_key) {
  const Mamba2Keys& keys = kBambaKeys;
  Mamba2Settings m = read_mamba2_sizes(c, keys, {.heads = 128, .head_dim = 0, .state = 256});
  const Json* head = c.find(keys.head_dim);
  const bool automatic = head == nullptr || (head->is_string() && head->as_string() == "auto");
  m.head_dim = automatic ? inner / m.heads : c.integer(keys.head_dim, std::nullopt);
  if (m.head_dim < 1 || m.heads * m.head_dim != inner)
    c.fail(format("{} = {} of {} = {} do not make the {} channels of {}", keys.heads, m.heads,
                  keys.head_dim, m.head_dim, inner, inner_key));
  check_mamba2(c, m);
  read_step_limit(c, "time_step_limit", m);
  c.ignore({"mamba_chunk_size", "time_step_min", "time_step_max"});
  return m;
}

void check_mamba2(const ConfigReader& config, const Mamba2Settings& m) {
  if (m.heads < 1 || m.head_dim < 1 || m.state < 1 || m.groups < 1 || m.heads % m.groups != 0 ||
      m.conv < 1)
    config.fail(format("Mamba-2 of {} heads x {}, states of {}, in {} groups, {} taps", m.heads,
                       m.head_dim, m.state, m.groups, m.conv));
}

void read_step_limit(ConfigReader& config, const char* key, Mamba2Settings& m) {
  const Json* limit = config.find(key);
  if (limit == nullptr) return;
  const bool pair = limit->is_array() && limit->size() == 2;
  if (!pair || !limit->elements()[0].is_number())
    config.fail(format("{} is {}, not a pair of numbers", key, printable(limit->dump())));
  const Json& most = limit->elements()[1];
  const bool endless = most == python_infinity();
  m.dt_min = limit->elements()[0].as_real();
  m.dt_max = endless ? 0 : most.is_number() ? most.as_real() : -1;
  if (!(m.dt_min >= 0) || !(endless || m.dt_max > m.dt_min))
    config.fail(format("{} is {}, not a range of steps", key, printable(limit->dump())));
}

double read_multiplier(ConfigReader& config, const char* key) {
  const double value = config.real(key, 1);
  if (!(value >= 1e-30 && value <= 1e30))
    config.fail(format("{} is {}, not between 1e-30 and 1e30", key, value));
  return value;
}

int64_t read_dt_rank(ConfigReader& config, const char* key, int64_t width) {
  const Json* given = config.find(key);
  const bool automatic = given == nullptr || (given->is_string() && given->as_string() == "auto");
  const int64_t rank = automatic ? (width + 15) / 16 : config.integer(key, std::nullopt);
  if (rank < 1) config.fail(format("{} is 0", key));
  return rank;
}

void set_stack(FamilyModel& model, FunctionRef<LayerSpec(int64_t)> mixer,
               FunctionRef<LayerSpec(int64_t)> channel) {
  std::vector<LayerSpec> layers;
  for (int64_t i = 0; i < model.layers; ++i) {
    layers.push_back(mixer(i));
    layers.push_back(channel(i));
  }
  model.settings.stack = compress(layers);
}

void set_stack(FamilyModel& model, FunctionRef<LayerSpec(int64_t)> layer) {
  model.slots = 1;
  std::vector<LayerSpec> layers;
  for (int64_t i = 0; i < model.layers; ++i) layers.push_back(layer(i));
  model.settings.stack = compress(layers);
}

namespace {

// Before version 5 transformers called some layers otherwise.
std::string current_type(const std::string& type) {
  if (type == "mamba") return "linear_attention";
  if (type == "attention") return "full_attention";
  if (type == "deepseek_sparse_attention") return "indexed_attention";
  return type;
}

}  // namespace

std::vector<std::string> read_layer_types(ConfigReader& config, int64_t layers,
                                          std::initializer_list<const char*> known) {
  std::vector<std::string> types;
  for (const char* key : {"layer_types", "layers_block_type"}) {
    std::vector<std::string> own = config.texts(key);
    if (own.empty()) continue;
    if (std::ssize(own) != layers) {
      config.fail(format("{} has {} entries for num_hidden_layers = {}", key, own.size(), layers));
    }
    for (std::string& t : own) {
      const std::string given = t;
      t = current_type(t);
      if (std::none_of(known.begin(), known.end(), [&](const char* k) { return t == k; }))
        config.fail(format("{} holds \"{}\", which is not known for {}", key, printable(given),
                           config.model_type()));
    }
    if (!types.empty() && types != own) config.fail("layer_types and layers_block_type differ");
    types = std::move(own);
  }
  return types;
}

std::vector<int64_t> qwen_windows(ConfigReader& config, int64_t layers, int64_t first) {
  const bool use = config.boolean("use_sliding_window", false);
  const int64_t given =
      config.explicit_null("sliding_window") ? 0 : config.integer("sliding_window", 4096);
  first = config.integer("max_window_layers", first);
  const std::vector<std::string> types =
      read_layer_types(config, layers, {"full_attention", "sliding_attention"});
  std::vector<int64_t> out;
  for (int64_t i = 0; i < layers; ++i) {
    const bool sliding =
        types.empty() ? i >= first : types[static_cast<size_t>(i)] == "sliding_attention";
    out.push_back(use && sliding ? given : 0);
  }
  return out;
}

std::vector<TensorRow> base_table(const char* mixer_norm, const char* channel_norm) {
  return {{"embed_tokens.weight", "{P}embed_tokens.weight", copied(), ""},
          {"norm.weight", "{P}norm.weight", copied(), ""},
          {"lm_head.weight", "{H}lm_head.weight", copied(), ""},
          {"mixer.norm.weight", std::string(mixer_norm) + ".weight", copied(), ""},
          {"channel.norm.weight", std::string(channel_norm) + ".weight", copied(), ""}};
}

void append(std::vector<TensorRow>& table, std::vector<TensorRow> rows) {
  std::move(rows.begin(), rows.end(), std::back_inserter(table));
}

std::vector<TensorRow> gqa_rows() { return {{"mixer.gqa.*", "self_attn.*", copied(), ""}}; }
std::vector<TensorRow> mamba2_rows(const Mamba2Settings& m, const std::string& scope,
                                   const std::string& own) {
  const std::vector<int64_t> parts = {2 * m.heads * m.head_dim + 2 * m.groups * m.state, m.heads};
  std::vector<TensorRow> rows;
  for (const char* kind : {"weight", "bias"}) {
    const std::string tensor = format("{}in_proj.{}", scope, kind);
    rows.push_back({format("{}in_proj.{}", own, kind), tensor, part_of(parts, 0), ""});
    rows.push_back({format("{}in_proj_dt.{}", own, kind), tensor, part_of(parts, 1), ""});
  }
  rows.push_back({own + "*", scope + "*", copied(), ""});
  return rows;
}
std::vector<TensorRow> swiglu_rows() { return {{"channel.swiglu.*", "mlp.*", copied(), ""}}; }

void set_llama_form(FamilyModel& model, FunctionRef<LayerSpec(int64_t)> mixer,
                    const LayerSpec& channel) {
  set_stack(model, mixer, [&](int64_t) { return channel; });
  append(model.table, base_table());
  append(model.table, gqa_rows());
  append(model.table, swiglu_rows());
}

std::vector<TensorRow> stacked_expert_rows(const std::string& scope) {
  return {{"channel.moe.experts.gate_up_proj", scope + "experts.gate_up_proj", copied(), ""},
          {"channel.moe.experts.down_proj", scope + "experts.down_proj", copied(), ""}};
}

std::vector<TensorRow> moe_rows(const std::string& scope, const std::string& gate,
                                const std::string& up, const std::string& down,
                                const std::string& shared) {
  const std::string expert = scope + "experts.{e}.";
  std::vector<TensorRow> rows = {
      {"channel.moe.gate.weight", scope + "gate.weight", copied(), ""},
      {"channel.moe.gate.e_score_correction_bias", scope + "gate.e_score_correction_bias", copied(),
       ""},
      {"channel.moe.experts.gate_up_proj", expert + gate + ".weight", expert_pairs(),
       expert + up + ".weight"},
      {"channel.moe.experts.down_proj", expert + down + ".weight", experts(), ""}};
  append(rows, stacked_expert_rows(scope));
  if (shared.empty()) return rows;
  rows.push_back(
      {"channel.moe.shared_expert_gate.weight", scope + "shared_expert_gate.weight", copied(), ""});
  rows.push_back({"channel.moe.shared_expert.*", scope + shared + ".*", copied(), ""});
  return rows;
}

}  // namespace braid
