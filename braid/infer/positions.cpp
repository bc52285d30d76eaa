#include "braid/infer/positions.h"

#include <algorithm>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/layers/layer.h"
#include "braid/stack/compress.h"
#include "braid/stack/parallel_layer.h"

namespace braid {
namespace {

void add_layer(const std::string& name, const Layer& layer, std::vector<AttendingLayer>& out) {
  if (const auto* attender = dynamic_cast<const Attender*>(&layer)) out.push_back({name, attender});
}

}  // namespace

std::vector<AttendingLayer> attending_layers(const Model& model) {
  std::vector<AttendingLayer> out;
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

std::vector<PositionLayers> position_layers(const Model& model) {
  std::vector<PositionLayers> out;
  for (const AttendingLayer& layer : attending_layers(model)) {
    const AttendedPositions how = layer.attender->positions();
    const auto same = std::find_if(out.begin(), out.end(), [&](const PositionLayers& p) {
      return p.name == layer.name && p.how == how;
    });
    if (same != out.end())
      ++same->layers;
    else
      out.push_back({layer.name, 1, how});
  }
  return out;
}

std::string window_pattern(const Model& model) {
  std::vector<LayerSpec> windows;
  for (const AttendingLayer& layer : attending_layers(model)) {
    const int64_t window = layer.attender->positions().window;
    windows.push_back({window > 0 ? format("window{}", window) : "full", {}});
  }
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

int64_t most_tokens(const ModelSettings& settings) {
  return settings.positions > 0 ? settings.positions : INT64_MAX;
}

std::string beyond_trained(const Model& model, int64_t tokens) {
  tokens = std::min(tokens, most_tokens(model.settings()));
  const int64_t made = model.settings().max_position_embeddings;
  if (made <= 0 || tokens <= made) return "";
  std::string scaling = "no layer has rotary positions";
  for (const PositionLayers& p : position_layers(model)) {
    if (!p.how.rope) continue;
    scaling = p.how.scaling.empty() ? "no rope scaling stretches positions any further"
                                    : format("its rope scaling ({}) is counted in that already",
                                             rope_scaling_words(p.how.scaling));
    if (!p.how.scaling.empty()) break;
  }
  return format(
      "{} tokens, but the model was made for {} (max_position_embeddings): {}, so what it makes "
      "beyond them may be worse",
      tokens, made, scaling);
}

}  // namespace braid
