// Hymba (arXiv 2411.13676): attention and Mamba on one projection in every layer, meta tokens
// before every sequence, full attention in a few layers, keys and values shared within groups of
// layers. After the code that its checkpoints bring along; their mask sees sliding_window keys
// besides the token itself.

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

// Which layer's keys and values a layer attends to, its own number where it has some.
std::vector<int64_t> read_groups(ConfigReader& c, int64_t layers) {
  std::vector<int64_t> producer(static_cast<size_t>(layers));
  for (int64_t i = 0; i < layers; ++i) producer[static_cast<size_t>(i)] = i;
  const Json* every = c.find("kv_reuse_every_i_layer");
  const Json* groups = c.find("kv_reuse_group");
  if (every != nullptr && groups == nullptr && (!every->is_number() || every->as_real() > 0))
    c.fail("kv_reuse_every_i_layer is given without kv_reuse_group, which is not known");
  c.require_boolean("kv_weight_reuse", false);
  if (groups == nullptr) return producer;
  std::vector<bool> grouped(static_cast<size_t>(layers), false);
  const auto bad = [&] {
    c.fail(format("kv_reuse_group is {}, not lists of rising layers", printable(groups->dump())));
  };
  if (!groups->is_array()) bad();
  for (const Json& group : groups->elements()) {
    if (!group.is_array() || group.size() == 0) bad();
    int64_t first = -1, last = -1;
    for (const Json& item : group.elements()) {
      const double value = item.is_number() ? item.as_real() : -1;
      if (!(value > static_cast<double>(last)) || value >= static_cast<double>(layers) ||
          value != std::floor(value))
        bad();
      last = static_cast<int64_t>(value);
      if (grouped[static_cast<size_t>(last)]) bad();
      grouped[static_cast<size_t>(last)] = true;
      if (first < 0) first = last;
      producer[static_cast<size_t>(last)] = first;
    }
  }
  return producer;
}

// A key that is -1, absent or what the class computes itself.
void require_computed(ConfigReader& c, const char* key, int64_t value) {
  const Json* given = c.find(key);
  if (given == nullptr) return;
  const double v = given->is_number() ? given->as_real() : 0;
  if (v != -1 && v != static_cast<double>(value))
    c.fail(format("{} is {}; -1 or {} is known", key, printable(given->dump()), value));
}

// The base of the angles: NTK-aware scaling stretches it once and for all.
double read_theta(ConfigReader& c, int64_t head_dim, int64_t max_positions) {
  const double theta = c.real("rope_theta", 10000);
  if (!(theta > 0)) c.fail(format("rope_theta is {}, not positive", theta));
  c.require_text("rope_type", {"default", "ntk"});
  const int64_t original =
      c.integer("orig_max_position_embeddings", max_positions, int64_t{1} << 40);
  if (c.text("rope_type", "default") == "default") return theta;
  if (!c.has("orig_max_position_embeddings"))
    c.fail("rope_type is \"ntk\" and orig_max_position_embeddings is missing");
  constexpr double kFactor = 2;  // the class's own
  const double grown =
      kFactor * static_cast<double>(max_positions) / static_cast<double>(original) - (kFactor - 1);
  if (original < 1 || head_dim < 4 || !(grown > 0))
    c.fail(format("rope_type \"ntk\" from {} to {} positions, heads of {} channels", original,
                  max_positions, head_dim));
  const double d = static_cast<double>(head_dim);
  return theta * std::pow(grown, d / (d - 2));
}

struct Sizes {
  GqaSettings heads;
  MambaSettings mamba;
  int64_t window = 0;
  std::vector<int64_t> full;      // layers that attend to everything
  std::vector<int64_t> producer;  // by layer: whose keys and values it attends to
  std::vector<bool> read;         // by layer: whether others attend to its own
  bool one_name = true;
};

// Who is read, and under which name: one is enough where a reader's producer is always the last
// that there was.
void name_links(Sizes& s) {
  s.read.assign(s.producer.size(), false);
  for (size_t i = 0; i < s.producer.size(); ++i) {
    const auto producer = static_cast<size_t>(s.producer[i]);
    if (producer != i) s.read[producer] = true;
  }
  int64_t last = -1;
  for (size_t i = 0; i < s.producer.size(); ++i) {
    if (s.read[i]) last = static_cast<int64_t>(i);
    if (s.producer[i] != static_cast<int64_t>(i) && s.producer[i] != last) s.one_name = false;
  }
}

Sizes read_sizes(ConfigReader& c, FamilyModel& m) {
  Sizes s;
  const int64_t width = m.settings.width;
  read_heads(c, {.kv_heads = 8}, m, s.heads);
  require_computed(c, "attn_hidden_size", width);
  require_computed(c, "kq_head_dim", s.heads.head_dim);
  if (s.heads.heads * s.heads.head_dim != width)
    c.fail(
        format("num_attention_heads = {} does not divide hidden_size = {}", s.heads.heads, width));
  c.require_text("kq_norm", {"none"});
  s.heads.rope.on = c.boolean("rope", false);
  s.heads.rope.theta = read_theta(c, s.heads.head_dim, m.settings.max_position_embeddings);
  const int64_t expand = c.integer("mamba_expand", 2, 1 << 10);
  s.mamba.inner = expand * width;
  s.mamba.state = c.integer("mamba_d_state", 16);
  s.mamba.conv = c.integer("mamba_d_conv", 4);
  if (expand < 1 || s.mamba.state < 1 || s.mamba.conv < 1 || s.mamba.inner % s.heads.heads != 0)
    c.fail(format("mamba_expand = {}, mamba_d_state = {}, mamba_d_conv = {}", expand, s.mamba.state,
                  s.mamba.conv));
  s.mamba.dt_rank = read_dt_rank(c, "mamba_dt_rank", width);
  c.require_boolean("mamba_conv_bias", true);
  c.require_boolean("mamba_proj_bias", false);
  c.require_boolean("mamba_inner_layernorms", true);
  s.window = c.integer("sliding_window", 0);
  s.full = c.integers("global_attn_idx");
  for (const int64_t layer : s.full) {
    if (layer >= m.layers)
      c.fail(format("global_attn_idx holds {}, but there are {} layers", layer, m.layers));
  }
  s.producer = read_groups(c, m.layers);
  name_links(s);
  return s;
}

int64_t window_of(const Sizes& s, int64_t layer) {
  const bool full = std::find(s.full.begin(), s.full.end(), layer) != s.full.end();
  return s.window == 0 || full ? 0 : s.window + 1;
}

std::string link_of(const Sizes& s, int64_t layer) {
  return s.one_name ? "kv" : format("kv{}", s.producer[static_cast<size_t>(layer)]);
}

LayerSpec mixer(ConfigReader& c, const Sizes& s, const FamilyModel& m, int64_t i) {
  const int64_t producer = s.producer[static_cast<size_t>(i)];
  const int64_t window = window_of(s, i), held = window_of(s, producer);
  if (held > 0 && (window == 0 || window > held))
    c.fail(
        format("layer {} attends to more than layer {} keeps, whose keys it reuses", i, producer));
  const ModelSettings& model = m.settings;
  OptionList o;
  o.add("heads", s.heads.heads, model.heads);
  if (producer == i) o.add("kv_heads", s.heads.kv_heads, s.heads.heads);
  o.add("head_dim", s.heads.head_dim, model.head_dim);
  o.add("expand", s.mamba.inner / model.width, 2);
  o.add("state", s.mamba.state, 16);
  o.add("conv", s.mamba.conv, 4);
  o.add("dt_rank", s.mamba.dt_rank, (model.width + 15) / 16);
  o.add("rope", s.heads.rope.on, true);
  if (s.heads.rope.on) o.add("rope_theta", s.heads.rope.theta, 10000.0);
  o.add("window", window, 0);
  if (producer != i) {
    o.add("of", link_of(s, i), "");
  } else if (s.read[static_cast<size_t>(i)]) {
    o.add("as", link_of(s, i), "");
  }
  return o.layer("hymba");
}

std::vector<TensorRow> table() {
  std::vector<TensorRow> rows = {{"norm.weight", "{P}final_layernorm.weight", copied(), ""},
                                 {"meta_tokens.weight", "{P}memory_tokens", copied(), ""}};
  const std::string own = "mixer.hymba.";
  for (const char* name : {"x_proj", "dt_proj"})
    rows.push_back({format("{}{}.*", own, name), format("mamba.{}.0.*", name), copied(), ""});
  for (const char* name : {"A_log", "D"})
    rows.push_back({own + name, format("mamba.{}.0", name), copied(), ""});
  rows.push_back({own + "b_layernorm.weight", "mamba.B_layernorm.weight", copied(), ""});
  rows.push_back({own + "c_layernorm.weight", "mamba.C_layernorm.weight", copied(), ""});
  rows.push_back({own + "*", "mamba.*", copied(), ""});
  rows.push_back({"channel.swiglu.*", "moe.experts.0.*", copied(), ""});
  append(rows, base_table("input_layernorm", "pre_moe_layernorm"));
  return rows;
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.vocab = 65536, .max_positions = 262144}, m);
  c.require_text("hidden_act", {"silu"});
  c.require_text("mlp_hidden_act", {"silu"});
  c.require_integer("num_mamba", 1);
  if (const int64_t n = c.integer("num_experts", 16); n != 1)
    c.fail(format("num_experts is {}; only 1 is known for hymba", n));
  for (const std::string& type : c.texts("layer_type")) {
    if (type != "h") c.fail(format("layer_type holds \"{}\"; \"h\" is known", printable(type)));
  }
  // v_head_dim and conv_dim are what the class writes over them; the rest is how it computes.
  c.ignore({"num_experts_per_tok", "v_head_dim", "conv_dim", "seq_length", "use_mamba_kernels",
            "attn_implementation", "attn_implementation_new", "calc_logits_for_entire_prompt"});
  m.settings.meta_tokens = c.integer("num_memory_tokens", 0, 1 << 16);
  if (c.integer("memory_tokens_interspersed_every", 0) != 0)
    c.fail("memory_tokens_interspersed_every is not 0: memory tokens inside sequences");
  const Sizes s = read_sizes(c, m);
  const int64_t ffn = c.integer("intermediate_size", 14336);
  if (ffn < 1) c.fail("intermediate_size is 0");
  set_stack(
      m, [&](int64_t i) { return mixer(c, s, m, i); }, [&](int64_t) { return swiglu_layer(ffn); });
  m.table = table();
  return m;
}

}  // namespace

Family family_hymba() { return {"hymba", {"hymba"}, read}; }

}  // namespace braid
