#include "braid/importers/hf_shown.h"

#include <algorithm>
#include <functional>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/layers/channels/default_ffn.h"
#include "braid/stack/model.h"
#include "braid/stack/parallel_layer.h"

namespace braid {

void homeless(const std::string& what) {
  throw Error(ErrorKind::kUsage, "no published family holds this model: " + what +
                                     "; a braid folder does (--to braid)");
}

namespace {

// A dimension of one of the layer's own parameters, none where it has no such parameter.
using SizeOf = std::function<std::optional<int64_t>(const char* parameter, int dimension)>;

struct SizedOption {
  const char *layer, *key, *parameter;
  int dimension;
};
constexpr SizedOption kSized[] = {{"mamba", "inner", "A_log", 0},
                                  {"mamba", "dt_rank", "dt_proj.weight", 1},
                                  {"mamba2", "heads", "dt_bias", 0},
                                  {"hymba", "dt_rank", "dt_proj.weight", 1},
                                  {"mlp", "ffn", "up_proj.weight", 0},
                                  {"cmix", "ffn", "key.weight", 0},
                                  {"rwkv7", "decay_rank", "w_lora.lora.0.weight", 0},
                                  {"rwkv7", "a_rank", "a_lora.lora.0.weight", 0},
                                  {"rwkv7", "v_rank", "v_lora.lora.0.weight", 0},
                                  {"rwkv7", "g_rank", "g_lora.lora.0.weight", 0}};

// Sizes that the layer makes up itself, as its parameters have them; what has no parameter, as the
// residual of values in RWKV-7's first layer, is left out.
void spell_out_sizes(const SizeOf& size_of, ShownLayer& l) {
  for (const SizedOption& o : kSized) {
    if (l.name != o.layer) continue;
    const std::optional<int64_t> size = size_of(o.parameter, o.dimension);
    if (size) {
      l.options[o.key] = format("{}", *size);
    } else {
      l.options.erase(o.key);
    }
  }
  if (l.name == "mamba" || l.name == "mamba2") l.options.erase("expand");
  if (l.name == "mamba2" && l.integer("norm_groups", 0) == 0)
    l.options["norm_groups"] = l.get("groups", "1");
}

// Sizes that a layer leaves to the model are said, and what only training reads is left out, so
// that two layers are the same when their texts are.
void spell_out(const ModelSettings& s, const SizeOf& size_of, ShownLayer& l) {
  const auto put = [&](const char* key, int64_t value) { l.options[key] = format("{}", value); };
  if (l.name == "swiglu" && l.integer("ffn", 0) == 0) put("ffn", default_ffn(s.width));
  if (l.name == "moe") {
    if (l.integer("ffn", 0) == 0) put("ffn", default_expert_ffn(s.width, l.integer("top_k", 2)));
    for (const char* key : {"aux_coef", "bias_rate"}) l.options.erase(key);
    if (l.get("balance", "bias") == "aux") l.options["balance"] = "none";
  }
  if (l.name == "gqa" || l.name == "hymba" || l.name == "gdn" || l.name == "kda") {
    const int64_t heads = l.integer("heads", 0), dim = l.integer("head_dim", 0);
    put("heads", heads > 0 ? heads : dim > 0 ? s.width / dim : s.heads);
    put("head_dim", dim > 0 ? dim : heads > 0 ? s.width / heads : s.head_dim);
    if (l.name == "gqa" || l.name == "hymba") {
      if (l.get("of", "").empty()) put("kv_heads", l.integer("kv_heads", l.integer("heads", 0)));
    } else {
      put("v_heads", l.integer("v_heads", l.integer("heads", 0)));
      put("value_dim", l.integer("value_dim", l.integer("head_dim", 0)));
    }
    if (l.name == "kda") put("gate_rank", l.integer("gate_rank", l.integer("value_dim", 0)));
  }
  if (l.name == "mla") {
    const int64_t heads = l.integer("heads", 0), dim = l.integer("qk_nope_head_dim", 0);
    const int64_t own = dim > 0 ? dim : heads > 0 ? s.width / heads : s.head_dim;
    put("heads", heads > 0 ? heads : dim > 0 ? s.width / dim : s.heads);
    put("qk_nope_head_dim", own);
    put("qk_rope_head_dim", l.integer("qk_rope_head_dim", own / 2));
    put("v_head_dim", l.integer("v_head_dim", own));
    put("kv_lora_rank", l.integer("kv_lora_rank", 4 * own));
  }
  spell_out_sizes(size_of, l);
  l.text = l.name;
  const char* sign = "{";
  for (const auto& [key, value] : l.options) {
    l.text += format("{}{}={}", sign, key, value);
    sign = ",";
  }
  if (!l.options.empty()) l.text += "}";
}

// Name and text of branches side by side; a sum is the same in any order.
void join_texts(Join join, ShownLayer& l) {
  if (join == Join::kSum) {
    std::stable_sort(l.branches.begin(), l.branches.end(),
                     [](const ShownLayer& a, const ShownLayer& b) { return a.name < b.name; });
  }
  const char sign = join_sign(join);
  l.name.clear();
  for (const ShownLayer& branch : l.branches) {
    if (!l.name.empty()) {
      l.name += sign;
      l.text += format(" {} ", sign);
    }
    l.name += branch.name;
    l.text += branch.text;
  }
}

}  // namespace

ShownModel show_model(const ModelSettings& settings) {
  Context dry;
  dry.arena = Arena::create(Arena::Mode::kDry);
  Model model(dry, settings, Model::Fill::kDeferred);
  ShownModel out{model.settings(), {}};
  const std::vector<Model::SubLayer> all = model.sublayers();
  if (std::ssize(all) != model.executed())
    homeless("layers run more than once (loop), and no family shares weights");
  const auto shown = [&](const std::string& name, const Layer& layer, const std::string& scope) {
    ShownLayer l;
    l.name = name;
    const Options options = layer.options();
    for (const Options::Item& o : options.items()) l.options[o.key] = o.value;
    const SizeOf size_of = [&](const char* parameter, int dimension) -> std::optional<int64_t> {
      const Parameter* p = model.parameters().find(scope + parameter);
      return p == nullptr ? std::nullopt : std::optional(p->value.size(dimension));
    };
    spell_out(out.settings, size_of, l);
    return l;
  };
  for (size_t i = 0; i < all.size(); ++i) {
    const Model::SubLayer& s = all[i];
    const auto* side_by_side = dynamic_cast<const ParallelLayer*>(s.layer);
    if (side_by_side == nullptr) {
      out.layers.push_back(shown(s.name, *s.layer, s.scope));
      continue;
    }
    const FlatStack::Leaf& leaf = model.flat().leaves[static_cast<size_t>(model.flat().layers[i])];
    ShownLayer l;
    for (size_t b = 0; b < leaf.layers.size(); ++b) {
      const std::string& name = leaf.layers[b].name;
      l.branches.push_back(
          shown(name, *side_by_side->branches()[b], format("{}{}.{}.", s.scope, b, name)));
    }
    join_texts(leaf.join, l);
    out.layers.push_back(std::move(l));
  }
  return out;
}

}  // namespace braid
