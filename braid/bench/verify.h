#pragma once
// Proof on the user's own machine that the fast code of every layer of a stack computes what its
// definition says (DESIGN section 7).

#include <cstdint>
#include <string>
#include <vector>

#include "braid/core/context.h"
#include "braid/stack/model.h"

namespace braid {

struct VerifyCheck {
  std::string layer;  // "kda", or "stack" for the whole model
  std::string what;   // "forward = reference", "packed = alone", ...
  double error = 0;   // largest difference over the largest value of the reference
  double bound = 0;   // what f32 rounding explains
  bool passed() const { return error <= bound; }  // false for NaN
};

struct VerifyOptions {
  int64_t tokens = 130;  // crosses the chunk ends
  uint64_t seed = 0;
};

// Adds noise to the model's small parameters, so that gains of 1, biases of 0 and zero queries do
// not hide a mistake.
void perturb_small_parameters(Model& model, uint64_t seed);

// Every distinct layer of the stack against its reference, forward and gradients, then chunked =
// step = packed = restored, for each layer and for the whole model. Gradients are compared along
// random directions with central differences of the double-precision reference.
std::vector<VerifyCheck> verify_stack(const Context& ctx, Model& model,
                                      const VerifyOptions& options);

}  // namespace braid
