#pragma once
// What a model's layers do with positions, and how far it was made to go.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "braid/layers/attender.h"
#include "braid/stack/model.h"

namespace braid {

// Layers that attend in the same way.
struct PositionLayers {
  std::string name;  // "gqa"
  int64_t layers = 0;
  AttendedPositions how;
  bool operator==(const PositionLayers&) const = default;
};
// In the order of their first layers; mixers that carry a state alone are left out.
std::vector<PositionLayers> position_layers(const Model& model);

// The layers that attend, in the order of the stack, branches side by side one by one.
struct AttendingLayer {
  std::string name;
  const Attender* attender;
};
std::vector<AttendingLayer> attending_layers(const Model& model);

// The windows of all that attend, in the order of the layers, as "5 x window1024, full".
std::string window_pattern(const Model& model);

// "yarn:4:32768:32:1:1:1.14" -> "yarn, 4 times from 32768"
std::string rope_scaling_words(std::string_view scaling);

// The most tokens that a sequence of such a model may have, read and written together: its learned
// positions; INT64_MAX where no layer sets an end.
int64_t most_tokens(const ModelSettings& settings);

// Why `tokens` are more than the model was made for, with both numbers and what its positions do
// there; "" when they are not, or when nobody knows. More than most_tokens() never come about.
std::string beyond_trained(const Model& model, int64_t tokens);

}  // namespace braid
