#include "braid/infer/positions.h"

#include <algorithm>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/layers/layer.h"
#include "braid/stack/compress.h"
#include "braid/stack/parallel_layer.h"

namespace braid {
namespace {

// Option `key` of a layer, `fallback` where it has none.
std::string option(const Options& options, std::string_view key, const std::string& fallback) {
  for (const Options::Item& o : options.items()) {
    if (o.key == key) return o.value;
  }
  return fallback;
}

// What a layer does with positions, as one of its kind; nothing of a layer that does not attend.
// Options that are a layer's default are not among its options.
void add_layer(const std::string& name, const Layer& layer, std::vector<PositionLayers>& out) {
  const std::span<const PositionLayers> known = attending_mixers();
  const auto usual = std::find_if(known.begin(), known.end(),
                                  [&](const PositionLayers& p) { return p.name == name; });
  if (usual == known.end()) return;
  const Options o = layer.options();
  PositionLayers p = *usual;
  p.layers = 1;
  p.rope = parse_bool(option(o, "rope", "")).value_or(usual->rope);
  p.theta = p.rope ? parse_real(option(o, "rope_theta", "")).value_or(usual->theta) : 0;
  p.rotary = parse_real(option(o, "rotary", "")).value_or(1);
  p.scaling = option(o, "rope_scaling", "");
  p.window = parse_int(option(o, "window", "")).value_or(usual->window);
  out.push_back(std::move(p));
}

// One entry a layer, branches of mixers side by side on their own.
std::vector<PositionLayers> each_layer(const Model& model) {
  std::vector<PositionLayers> out;
  const std::vector<Model::SubLayer> all = model.sublayers();
  for (size_t i = 0; i < all.size(); ++i) {
    const auto* side_by_side = dynamic_cast<const ParallelLayer*>(all[i].layer);
    if (side_by_side == nullptr) {
      add_layer(all[i].name, *all[i].layer, out);
      continue;
    }
    const FlatStack::Leaf& leaf = model.flat().leaves[static_cast<size_t>(model.flat().layers[i])];
    for (size_t b = 0; b < leaf.layers.size(); ++b)
      add_layer(leaf.layers[b].name, *side_by_side->branches()[b], out);
  }
  return out;
}

}  // namespace

std::span<const PositionLayers> attending_mixers() {
  constexpr double kTheta = 10000;
  static const PositionLayers mixers[] = {
      {"gqa", 0, true, kTheta, 1, "", 0},   {"mla", 0, true, kTheta, 1, "", 0},
      {"dsa", 0, true, kTheta, 1, "", 0},   {"hymba", 0, true, kTheta, 1, "", 0},
      {"diff", 0, true, kTheta, 1, "", 0},  {"moba", 0, true, kTheta, 1, "", 0},
      {"nsa", 0, true, kTheta, 1, "", 512}, {"fox", 0, false, kTheta, 1, "", 0}};
  return mixers;
}

std::vector<PositionLayers> position_layers(const Model& model) {
  std::vector<PositionLayers> out;
  for (PositionLayers& one : each_layer(model)) {
    const auto same = std::find_if(out.begin(), out.end(), [&](PositionLayers p) {
      p.layers = 1;
      return p == one;
    });
    if (same != out.end())
      ++same->layers;
    else
      out.push_back(std::move(one));
  }
  return out;
}

std::string window_pattern(const Model& model) {
  std::vector<LayerSpec> windows;
  for (const PositionLayers& p : each_layer(model))
    windows.push_back({p.window > 0 ? format("window{}", p.window) : "full", {}});
  return windows.empty() ? "" : print_stack(compress(windows));
}

std::string rope_scaling_words(std::string_view scaling) {
  if (scaling.empty()) return "none";
  const std::vector<std::string_view> p = split(scaling, ':');
  const std::string name(p[0]);
  const auto times = [&](size_t factor, size_t from) {
    return format("{}, {} times from {}", name, p[factor], p[from]);
  };
  if (name == "linear" && p.size() > 1) return format("linear, {} times", p[1]);
  if ((name == "yarn" || name == "dynamic") && p.size() > 2) return times(1, 2);
  if (name == "llama3" && p.size() > 4) return times(1, 4);
  if (name == "longrope" && p.size() > 1) return format("longrope, from {}", p[1]);
  return std::string(scaling);
}

std::string beyond_trained(const Model& model, int64_t tokens) {
  const int64_t made = model.settings().max_position_embeddings;
  if (made <= 0 || tokens <= made) return "";
  std::string scaling = "no layer has rotary positions";
  for (const PositionLayers& p : position_layers(model)) {
    if (!p.rope) continue;
    scaling = p.scaling.empty() ? "no rope scaling stretches positions any further"
                                : format("its rope scaling ({}) is counted in that already",
                                         rope_scaling_words(p.scaling));
    if (!p.scaling.empty()) break;
  }
  return format(
      "{} tokens, but the model was made for {} (max_position_embeddings): {}, so what it makes "
      "beyond them may be worse",
      tokens, made, scaling);
}

}  // namespace braid
