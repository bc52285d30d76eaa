#pragma once
// Checkpoints with random weights, for tests and measurements at real sizes.

#include <cstdint>
#include <optional>
#include <string>

#include "braid/importers/hf_export.h"

namespace braid {

// Standard deviations of random weights.
struct RandomSpread {
  std::optional<double> matrices;  // absent: 1 / sqrt(columns), which keeps activations their size
  double embeddings = 1;
  double vectors = 0.1;    // around what they begin at: norms at one, decays in their range
  double into_stream = 1;  // a factor for projections back into the residual stream
};
// What a config.json says: initializer_range, of embeddings alone where the class of the family
// leaves its matrices to PyTorch, and the factor of those that scale by depth. Throws
// Error(kBadInput) for a range that is no positive number.
RandomSpread random_spread(const Json& config, const ReadConfig& read, const std::string& source);

// Fills a model so that nothing is at a value that hides a mistake: norms and biases differ from
// one and zero. A function of (seed, name, index).
void fill_random(const Context& ctx, Model& model, uint64_t seed, const RandomSpread& spread = {},
                 const ByteProgress& progress = {});

// The whole folder `to` for `folder`/config.json, in `dtype` ("F32", "BF16").
HfExported write_random_checkpoint(const Context& ctx, const std::string& folder,
                                   const std::string& to, const std::string& dtype, uint64_t seed,
                                   uint64_t shard_bytes, const ByteProgress& filling = {},
                                   const ByteProgress& writing = {});

}  // namespace braid
