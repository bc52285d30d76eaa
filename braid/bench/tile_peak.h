#pragma once
// The inner loops of the peaks of matrix tiles (kernels/simd/amx.h). One thread each, only where
// amx() is true; bench/instructions.cpp runs them on all.

#include <cstdint>

namespace braid {

// `rounds` products in each of four independent tiles; returns the operations done, 1 multiply-add
// = 2.
double burn_bf16_tiles(int64_t rounds);
double burn_int8_tiles(int64_t rounds);

}  // namespace braid
