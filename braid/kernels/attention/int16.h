#pragma once
// The two products of attention in 16-bit integers, for what rounded weights made
// (AttentionConfig::rounded): twice the rate of f32 where an instruction adds up products of pairs.
//
// Every query, key and value has a scale of its own. Queries and keys are as long as they can be
// without their product leaving 32 bits, whatever their direction (Cauchy-Schwarz): kInt16Norm, a
// number at most 32767. Numbers of a value go to kInt16Value, and a row of probabilities times the
// scales of its values adds up to kInt16Sum at most, a number of it to 32767. So every sum is exact
// and what is lost is half a unit of each number. A row of a result depends on its own operands
// alone, not on what else lies in a tile.
//
// An operand with a NaN or an infinity has a scale that is NaN, as have results that it meets. Rows
// whose largest number is below 1e-30 count as zero.

#include <cstdint>

#include "braid/kernels/attention/tiles.h"

namespace braid {

constexpr int64_t kInt16Rows = 8;  // of a left operand, whose number is a multiple of it
constexpr float kInt16Norm = 46000, kInt16Value = 16384, kInt16Sum = 131000;

// Whether this machine has such an instruction.
bool int16_products();

// q[rows, d] times `scale` (row stride ld) to [padded rows, d] and a scale for each, those past
// `rows` zero. d is a multiple of 32.
void int16_queries(const float* q, int64_t ld, int64_t rows, int64_t d, float scale, int16_t* to,
                   float* scales);

// A tile of keys [d, 64], or of values [64, dv], in the order in which the products below read it,
// with 64 scales. d and dv are multiples of 32.
void int16_keys(const float* keys, int64_t d, int16_t* to, float* scales);
void int16_values(const float* values, int64_t dv, int16_t* to, float* scales);

// scores[padded rows, 64] = queries times keys.
void int16_scores(const int16_t* queries, const float* query_scales, int64_t padded,
                  const int16_t* keys, const float* key_scales, int64_t d, float* scores);

// out[padded rows, dv] += probabilities[rows, 64] times values; rows past `rows` gain nothing.
void int16_gather(const float* probabilities, int64_t rows, const int16_t* values,
                  const float* value_scales, int64_t dv, float* out);

}  // namespace braid
