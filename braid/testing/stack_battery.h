#pragma once
// What must hold for every stack, for those whose layers read one another in particular (a mixer
// alone has testing/mixer_battery.h): logits and gradients are those of the double-precision
// reference; one call, token by token, cut and packed give the same; sequences are values; threads
// and recomputation change nothing.

#include <string>
#include <vector>

#include "braid/stack/settings.h"
#include "braid/state/state_options.h"

namespace braid::testing {

struct StackBattery {
  int64_t width = 24;
  int64_t heads = 3;
  int64_t head_dim = 8;
  std::string residual = "prenorm";
  // What else the model's settings should be; the stack and the sizes above are filled in.
  ModelSettings settings = {};
  std::vector<int64_t> lengths = {1, 2, 63, 64, 65, 130};
  // Largest difference over the largest value, of hidden rows and logits.
  double tolerance = 2e-5;
  // Of a directional derivative, relative to the gradient's 2-norm.
  double gradient_tolerance = 2e-4;
};

// One line per property that does not hold; empty when all do.
std::vector<std::string> check_stack(const std::string& stack, const StackBattery& battery = {});

}  // namespace braid::testing
