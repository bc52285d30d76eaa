// Phi-4-mini-flash (SambaY, arXiv 2507.06607): the lower half Mamba and sliding differential
// attention in turn, then one Mamba and one full attention whose memory and keys and values all
// layers above read through gated memory units and cross attention. No positions.

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/common.h"

namespace braid {
namespace {

constexpr const char* kMemory = "memory";
constexpr const char* kKv = "kv";

struct Sizes {
  int64_t heads = 0, kv_heads = 0, head_dim = 0, window = 0, ffn = 0;
  MambaSettings mamba;
};

// One number, or what the class makes of it and writes: one for every layer, null where it is not
// a sliding one.
int64_t read_window(ConfigReader& c, int64_t layers) {
  const Json* given = c.find("sliding_window");
  if (given == nullptr || !given->is_array()) {
    const int64_t window = c.integer("sliding_window", 2047);
    if (window < 1) c.fail("sliding_window is 0");
    return window;
  }
  int64_t window = 0;
  for (int64_t i = 0; i < static_cast<int64_t>(given->size()); ++i) {
    const Json& own = given->elements()[static_cast<size_t>(i)];
    const bool slides = i < layers / 2 && i % 2 == 1;
    const int64_t n = own.is_int() ? own.as_int() : 0;
    const bool right = slides
                           ? n >= 1 && n <= ConfigReader::kMostSize && (window == 0 || n == window)
                           : own.is_null();
    if (!right || static_cast<int64_t>(given->size()) != layers)
      c.fail(format("sliding_window is {}, not one window for every other layer of the lower half",
                    printable(given->dump())));
    if (slides) window = n;
  }
  if (window == 0) c.fail("sliding_window is an empty list");
  return window;
}

Sizes read_sizes(ConfigReader& c, FamilyModel& m) {
  Sizes s;
  GqaSettings heads;
  read_heads(c, {.heads = 40, .kv_heads = 4}, m, heads);
  s.heads = heads.heads;
  s.kv_heads = heads.kv_heads;
  s.head_dim = heads.head_dim;
  if (s.heads % 2 != 0 || s.kv_heads % 2 != 0)
    c.fail(format("num_attention_heads = {} and num_key_value_heads = {} come in pairs", s.heads,
                  s.kv_heads));
  s.window = read_window(c, m.layers);
  s.ffn = c.integer("intermediate_size", 9216);
  if (s.ffn < 1) c.fail("intermediate_size is 0");
  s.mamba.state = c.integer("mamba_d_state", 16);
  s.mamba.conv = c.integer("mamba_d_conv", 4);
  const int64_t expand = c.integer("mamba_expand", 2, 1 << 10);
  if (s.mamba.state < 1 || expand < 1)
    c.fail(format("mamba_d_state = {}, mamba_expand = {}", s.mamba.state, expand));
  s.mamba.inner = expand * m.settings.width;
  s.mamba.dt_rank = read_dt_rank(c, "mamba_dt_rank", m.settings.width);
  s.mamba.conv_bias = c.boolean("mamba_conv_bias", true);
  s.mamba.bias = c.boolean("mamba_proj_bias", false);
  return s;
}

LayerSpec diff_layer(const Sizes& s, const ModelSettings& model, int64_t window, const char* link) {
  OptionList o;
  o.add("heads", s.heads, model.heads);
  o.add("kv_heads", s.kv_heads, s.heads);
  o.add("head_dim", s.head_dim, model.head_dim);
  o.add("rope", false, true);
  o.add("window", window, 0);
  o.add("bias", std::string("qkvo"), "none");
  if (link != nullptr) o.add(link, std::string(kKv), "");
  return o.layer("diff");
}

LayerSpec mixer(const Sizes& s, const FamilyModel& m, int64_t i) {
  const int64_t half = m.layers / 2;
  if (i % 2 == 1) {
    return diff_layer(s, m.settings, i < half ? s.window : 0,
                      i < half        ? nullptr
                      : i == half + 1 ? "as"
                                      : "of");
  }
  if (i > half) return OptionList().add("of", std::string(kMemory), "").layer("gmu");
  LayerSpec mamba = mamba_layer(s.mamba, m.settings.width);
  if (i == half) mamba.options.set("as", kMemory);
  return mamba;
}

std::vector<TensorRow> table(const Sizes& s, int64_t layers) {
  std::vector<TensorRow> rows = {
      {"embed_tokens.weight", "{P}embed_tokens.weight", copied(), ""},
      {"norm.*", "{P}final_layernorm.*", copied(), ""},
      {"lm_head.weight", "{H}lm_head.weight", copied(), ""},
      {"mixer.norm.*", "input_layernorm.*", copied(), ""},
      {"channel.norm.*", "post_attention_layernorm.*", copied(), ""},
      {"mixer.mamba.*", "attn.*", copied(), ""},
      {"mixer.gmu.*", "attn.*", copied(), ""},
      {"mixer.diff.o_proj.*", "attn.out_proj.*", copied(), ""},
      {"mixer.diff.lambda_*", "attn.inner_cross_attn.lambda_*", copied(), ""},
      {"mixer.diff.subln.*", "attn.inner_cross_attn.subln.*", copied(), ""},
      {"channel.swiglu.gate_proj.weight", "mlp.fc1.weight", part_of({s.ffn, s.ffn}, 0), ""},
      {"channel.swiglu.up_proj.weight", "mlp.fc1.weight", part_of({s.ffn, s.ffn}, 1), ""},
      {"channel.swiglu.down_proj.weight", "mlp.fc2.weight", copied(), ""}};
  const int64_t q = s.heads * s.head_dim, kv = s.kv_heads * s.head_dim;
  for (const char* what : {"weight", "bias"}) {
    const std::string tensor = format("attn.Wqkv.{}", what);
    // Cross attention has the queries' rows alone.
    for (int64_t i = layers / 2 + 3; i < layers; i += 2)
      rows.push_back({format("layers.{}.diff.q_proj.{}", 2 * i, what), tensor, copied(), ""});
    const char* const names[] = {"q_proj", "k_proj", "v_proj"};
    for (size_t i = 0; i < 3; ++i)
      rows.push_back(
          {format("mixer.diff.{}.{}", names[i], what), tensor, part_of({q, kv, kv}, i), ""});
  }
  return rows;
}

FamilyModel read(ConfigReader& c) {
  FamilyModel m;
  read_model(c, {.width = 2560, .vocab = 51200, .max_positions = 4096, .tied = true}, m);
  m.settings.norm = NormKind::kLayer;
  m.settings.norm_eps = c.real("layer_norm_eps", 1e-5);
  if (!(m.settings.norm_eps > 0)) c.fail(format("layer_norm_eps is {}", m.settings.norm_eps));
  c.require_text("hidden_act", {"silu"});
  if (m.layers % 4 != 0) c.fail(format("num_hidden_layers is {}, not a multiple of 4", m.layers));
  if (c.integer("mb_per_layer", 2) != 2) c.fail("mb_per_layer is not 2");
  c.require_boolean("mlp_bias", false);
  c.require_boolean("lm_head_bias", false);
  c.ignore({"embd_pdrop", "resid_pdrop", "rope_theta"});  // nothing turns
  const Sizes s = read_sizes(c, m);
  const LayerSpec channel = swiglu_layer(s.ffn);
  set_stack(
      m, [&](int64_t i) { return mixer(s, m, i); }, [&](int64_t) { return channel; });
  m.table = table(s, m.layers);
  return m;
}

}  // namespace

Family family_phi4flash() { return {"phi4flash", {"phi4flash"}, read}; }

}  // namespace braid
