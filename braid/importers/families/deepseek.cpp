#include "braid/importers/families/deepseek.h"

#include <algorithm>

#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

const char kShared[] = "keys";  // the name under which layers hand on their choice

// Whether each layer has an indexer of its own: indexer_types, index_topk_pattern ("FSSF"), or
// every index_topk_freq-th one.
std::vector<bool> full_layers(ConfigReader& c, int64_t layers) {
  const std::vector<std::string> types = c.texts("indexer_types");
  const std::string pattern = c.text("index_topk_pattern", "");
  c.ignore({"index_share_for_mtp_iteration"});  // of the layer that is left out
  const int64_t every = c.integer("index_topk_freq", 1),
                offset = c.integer("index_skip_topk_offset", 2);
  if (every < 1) c.fail("index_topk_freq is 0");
  for (const auto& [key, n] : {std::pair("indexer_types", std::ssize(types)),
                               {"index_topk_pattern", std::ssize(pattern)}}) {
    if (n != 0 && n != layers) c.fail(format("{} has {} entries for {} layers", key, n, layers));
  }
  std::vector<bool> full;
  for (int64_t i = 0; i < layers; ++i) {
    std::string kind = std::max<int64_t>(i - offset + 1, 0) % every == 0 ? "full" : "shared";
    if (!pattern.empty()) {
      const char letter = pattern[static_cast<size_t>(i)];
      kind = letter == 'F' ? "full" : letter == 'S' ? "shared" : std::string(1, letter);
    }
    if (!types.empty()) kind = types[static_cast<size_t>(i)];
    if (kind != "full" && kind != "shared")
      c.fail(format("layer {} has indexer \"{}\"; full and shared are known", i, printable(kind)));
    full.push_back(kind == "full");
  }
  if (!full.empty() && !full[0]) c.fail("layer 0 shares an indexer, but there is none before it");
  return full;
}

struct Indexer {
  int64_t heads, head_dim, top;
  bool interleaved;
  std::vector<bool> full;
};

Indexer read_indexer(ConfigReader& c, const IndexerDefaults& d, int64_t layers) {
  Indexer x{c.integer("index_n_heads", d.heads),
            c.integer("index_head_dim", d.head_dim),
            c.integer("index_topk", d.top),
            c.boolean("indexer_rope_interleave", d.interleaved),
            {}};
  x.full = d.shared ? full_layers(c, layers) : std::vector<bool>(static_cast<size_t>(layers), true);
  return x;
}

// mla's options and the indexer's.
LayerSpec dsa_layer(const LayerSpec& mla, const Indexer& x, int64_t i) {
  LayerSpec layer = mla;
  layer.name = "dsa";
  OptionList own;
  const size_t at = static_cast<size_t>(i);
  if (x.full[at]) {
    own.add("index_n_heads", x.heads, 64);
    own.add("index_head_dim", x.head_dim, 128);
    own.add("index_topk", x.top, 2048);
    own.add("index_interleaved", x.interleaved, false);
    if (at + 1 < x.full.size() && !x.full[at + 1]) own.add("as", std::string(kShared), "");
  } else {
    own.add("of", std::string(kShared), "");
  }
  const LayerSpec indexer = own.layer("dsa");
  for (const Options::Item& item : indexer.options.items()) layer.options.set(item.key, item.value);
  return layer;
}

struct Latent {
  int64_t heads, kv_rank, nope, rope, value, q_rank;
};

Latent read_latent(ConfigReader& c, const DeepseekDefaults& d) {
  const Latent l{c.integer("num_attention_heads", d.heads, 1 << 16),
                 c.integer("kv_lora_rank", 512),
                 c.integer("qk_nope_head_dim", d.nope),
                 c.integer("qk_rope_head_dim", 64),
                 c.integer("v_head_dim", d.value),
                 c.explicit_null("q_lora_rank") ? 0 : c.integer("q_lora_rank", d.q_rank)};
  if (l.heads < 1 || l.kv_rank < 1 || l.nope < 1 || l.rope < 1 || l.value < 1)
    c.fail(
        "one of num_attention_heads, kv_lora_rank, qk_nope_head_dim, qk_rope_head_dim and "
        "v_head_dim is 0");
  if (const auto whole = c.maybe_integer({"qk_head_dim"}); whole && *whole != l.nope + l.rope)
    c.fail(format("qk_head_dim is {}, not qk_nope_head_dim + qk_rope_head_dim = {}", *whole,
                  l.nope + l.rope));
  c.ignore({"num_key_value_heads", "head_dim"});  // every head has its own; the rotated part's
  return l;
}

}  // namespace

FamilyModel read_deepseek(ConfigReader& c, const DeepseekDefaults& d) {
  FamilyModel m;
  read_model(c, d.model, m);
  m.spare_layers = true;
  c.require_text("hidden_act", {"silu"});
  c.require_boolean("mlp_bias", false);
  read_layer_types(c, m.layers, {d.indexer ? "indexed_attention" : "full_attention"});
  const Latent l = read_latent(c, d);
  m.settings.heads = l.heads;
  m.settings.head_dim = l.nope + l.rope;
  const RopeSettings positions = read_rope(c, {.max_positions = d.model.max_positions});
  const bool interleaved = c.boolean("rope_interleave", true);
  const LayerSpec mla = mla_layer(l.heads, l.q_rank, l.kv_rank, l.nope, l.rope, l.value, positions,
                                  interleaved, c.boolean("attention_bias", false));
  std::optional<Indexer> indexer;
  if (d.indexer) indexer = read_indexer(c, *d.indexer, m.layers);
  MoeSettings moe;
  read_experts(c, d.experts, 8, c.integer("moe_intermediate_size", d.expert_ffn), moe);
  read_sigmoid_router(c, d.router, moe);
  const int64_t first = c.integer("first_k_dense_replace", 3);
  c.require_integer("moe_layer_freq", 1);
  const int64_t dense = c.integer("intermediate_size", d.dense_ffn);
  const std::vector<std::string> kinds = read_mlp_layer_types(c, m.layers);
  set_stack(
      m, [&](int64_t i) { return indexer ? dsa_layer(mla, *indexer, i) : mla; },
      [&](int64_t i) {
        const bool sparse = kinds.empty() ? i >= first : kinds[static_cast<size_t>(i)] == "sparse";
        return sparse ? moe_layer(moe) : swiglu_layer(dense);
      });
  m.table = base_table();
  m.table.push_back({indexer ? "mixer.dsa.*" : "mixer.mla.*", "self_attn.*", copied(), ""});
  append(m.table, swiglu_rows());
  append(m.table, moe_rows());
  return m;
}

}  // namespace braid
