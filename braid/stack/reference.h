#pragma once
// The whole model in double precision: the definitions of its parts put together, sharing no code
// with Model's forward. What `verify` and tests compare with.

#include <cstdint>
#include <span>
#include <vector>

#include "braid/stack/model.h"

namespace braid {

// All parameters of a model, in double precision, by their full names.
ReferenceParams reference_params(const Context& ctx, const Model& model);

// Logits [T, vocab] of one fresh sequence.
std::vector<double> reference_logits(const Model& model, const ReferenceParams& params,
                                     std::span<const int32_t> ids);

// Mean next-token loss, nats: ids[t + 1] is the target of position t.
double reference_loss(const Model& model, const ReferenceParams& params,
                      std::span<const int32_t> ids);

}  // namespace braid
