#pragma once
// The two halves of decoding over q8 tiles, in integers: queries and probabilities become numbers
// of 16 bits, two bytes each, whose products with the codes are exact. Their rounding, 2^-16 of the
// largest, is 200 times below that of the codes.

#include <cstddef>
#include <cstdint>

#include "braid/kernels/attention/tiles.h"

namespace braid {

// Floats of scratch for the queries of a group.
inline int64_t q8_query_floats(const KvLayout& layout) { return 4 + layout.padded_d() / 2; }

// Takes a query [d] apart.
void q8_query(const KvLayout& layout, const float* q, float* query);

// scores [heads, 64] (row stride ld) of one tile of keys; queries lie q8_query_floats apart.
void q8_scores(const KvLayout& layout, const std::byte* keys, int64_t heads, const float* queries,
               float* scores, int64_t ld);

// out [heads, dv] (row stride ld_out) (+)= the values of one tile by their weights [heads, 64] (row
// stride ld), those outside [begin, end) left out.
void q8_values(const KvLayout& layout, const std::byte* values, int64_t heads, const float* weights,
               int64_t ld, int64_t begin, int64_t end, float* out, int64_t ld_out, bool accumulate);

}  // namespace braid
