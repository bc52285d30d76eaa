#pragma once
// Proof on the user's own machine that the fast code of every layer of a stack computes what its
// definition says (DESIGN section 7).

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "braid/base/function_ref.h"
#include "braid/core/context.h"
#include "braid/stack/model.h"

namespace braid {

struct VerifyCheck {
  // "kda"; with the options of sizes that are not its own, "moba{block=9}"; "stack" for the whole
  std::string layer;
  std::string what;  // "forward = reference", "packed = alone", ...
  double error = 0;  // largest difference over the largest value of the reference
  double bound = 0;  // what f32 rounding explains
  bool passed() const { return error <= bound; }  // false for NaN
};

// Before each part: parts done, how many there are, and what comes.
struct VerifyProgress {
  size_t done = 0, all = 0;
  std::string what;  // "kda"
};

struct VerifyOptions {
  int64_t tokens = 130;  // crosses the chunk ends
  uint64_t seed = 0;
  // Told in a line what the sizes cannot show.
  std::function<void(const std::string&)> on_untested = {};
};

// Adds noise to the model's small parameters, so that gains of 1, biases of 0 and zero queries do
// not hide a mistake.
void perturb_small_parameters(Model& model, uint64_t seed);

// Every distinct layer of the stack against its reference, forward and gradients, then chunked =
// step = packed = restored, for each layer and for the whole model. Gradients are compared along
// random directions with central differences of the double-precision reference, over a step that no
// jump of it (another choice of experts, blocks or keys) lies in. A layer that sees all of the test
// sequence whatever it chooses (layers/chooser.h) is verified with smaller sizes too.
std::vector<VerifyCheck> verify_stack(
    const Context& ctx, Model& model, const VerifyOptions& options,
    FunctionRef<void(const VerifyProgress&)> progress = [](const VerifyProgress&) {});

}  // namespace braid
