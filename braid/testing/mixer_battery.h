#pragma once
// What must hold for every sequence mixer (DESIGN sections 2 and 3), checked on small random
// layers: its forward and gradients are those of its reference; one call, token by token, packed
// with other sequences and cut anywhere give the same; states can be copied, stored and resumed
// bit for bit; thread counts change nothing.

#include <string>
#include <vector>

#include "braid/layers/layer.h"

namespace braid::testing {

struct MixerBattery {
  std::string options;  // as in a stack expression: "heads=2,conv=0"
  // Matrices that stay f32 whatever type weights are loaded in, each followed by a blank: those of
  // decays, write strengths and low-rank gates (DESIGN section 5.7).
  std::string f32_matrices = "";
  int64_t width = 24;
  int64_t heads = 3;
  int64_t head_dim = 8;
  int64_t meta_tokens = 0;  // the first of the rows are such
  std::vector<int64_t> lengths = {1, 2, 63, 64, 65, 1000};
  bool constant_state = true;  // state bytes do not grow with the sequence
  StateOptions state = {};     // lossy types need a tolerance of their own
  // Largest difference over the largest value, for outputs and states. Two f32 orders of the same
  // sums over `width` and the sequence differ by some 1e-6.
  double tolerance = 1e-5;
  // The same between gradients of a packed batch and of its sequences alone.
  double packed_gradient_tolerance = 1e-5;
  // Of a directional derivative, relative to the gradient's 2-norm.
  double gradient_tolerance = 1e-4;
};

// One line per property that does not hold; empty when all do.
std::vector<std::string> check_mixer(const std::string& mixer, const MixerBattery& battery);

}  // namespace braid::testing
