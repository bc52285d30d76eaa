#pragma once
// A model that braid trained as its layers in canonical options: two models are the same when their
// texts are.

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/strings.h"
#include "braid/stack/settings.h"

namespace braid {

struct ShownLayer {
  std::string name;
  std::map<std::string, std::string> options;
  std::string text;                       // as the expression says it
  std::vector<ShownLayer> branches = {};  // of mixers side by side, which have no options as one

  std::string get(const char* key, const std::string& fallback) const {
    const auto found = options.find(key);
    return found == options.end() ? fallback : found->second;
  }
  int64_t integer(const char* key, int64_t fallback) const {
    return parse_int(get(key, "")).value_or(fallback);
  }
  double real(const char* key, double fallback) const {
    return parse_real(get(key, "")).value_or(fallback);
  }
  bool truth(const char* key, bool fallback) const {
    return parse_bool(get(key, "")).value_or(fallback);
  }
};

struct ShownModel {
  ModelSettings settings;  // resolved
  std::vector<ShownLayer> layers;
  int64_t slots = 2;  // sub-layers of a family's layer
  int64_t blocks() const { return std::ssize(layers) / slots; }
  // A layer, or a branch of mixers side by side.
  const ShownLayer* first(std::string_view name) const {
    for (const ShownLayer& l : layers) {
      if (l.name == name) return &l;
      for (const ShownLayer& branch : l.branches)
        if (branch.name == name) return &branch;
    }
    return nullptr;
  }
  bool has(std::string_view name) const { return first(name) != nullptr; }
};

// Throws Error(kUsage): no published family holds this model, and why.
[[noreturn]] void homeless(const std::string& what);

ShownModel show_model(const ModelSettings& settings);

}  // namespace braid
