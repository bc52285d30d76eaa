#pragma once
// What classic linear attention (2006.16236) has around the recurrence: a positive feature map, and
// the division by the summed scores, which the recurrence keeps as one more value channel.

#include "braid/ops/tape.h"

namespace braid {

enum class FeatureMap { kSilu, kElu, kRelu, kIdentity };  // kElu: elu(x) + 1

// phi(x); rows of x may be strided, the result is contiguous.
Tensor feature_map(const Context& ctx, const Tensor& x, FeatureMap map);

// v [T, HV, V], whose rows may be strided, with a channel of ones after the others: [T, HV, V + 1].
Tensor with_ones(const Context& ctx, const Tensor& v);

// o [T, HV, V + 1], contiguous -> [T, HV, V]: each vector over its last channel plus eps.
Tensor over_last(const Context& ctx, const Tensor& o, float eps);

}  // namespace braid
