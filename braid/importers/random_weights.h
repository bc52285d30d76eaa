#pragma once
// Checkpoints with random weights, for tests and measurements at real sizes.

#include <cstdint>
#include <string>

#include "braid/importers/hf_export.h"

namespace braid {

// Fills a model so that nothing is at a value that hides a mistake: matrices keep activations near
// their size, norms and biases differ from one and zero. A function of (seed, name, index).
void fill_random(const Context& ctx, Model& model, uint64_t seed,
                 const ByteProgress& progress = {});

// The whole folder `to` for `folder`/config.json, in `dtype` ("F32", "BF16").
HfExported write_random_checkpoint(const Context& ctx, const std::string& folder,
                                   const std::string& to, const std::string& dtype, uint64_t seed,
                                   uint64_t shard_bytes, const ByteProgress& filling = {},
                                   const ByteProgress& writing = {});

}  // namespace braid
