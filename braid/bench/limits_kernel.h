#pragma once
// The inner loops of the machine's limits. One thread each; bench/limits.cpp runs them on all.

#include <cstdint>

namespace braid {

// `rounds` multiply-adds in each of twelve independent register chains; returns the FLOPs done.
// `sink` takes the result, so that nothing can be left out.
double burn_multiply_adds(int64_t rounds, float* sink);

// Reads x[0, n); returns the sum of all lanes.
float read_all(const float* x, int64_t n);

// x[i] *= by over [0, n): one read and one write of every line.
void scale_in_place(float* x, int64_t n, float by);

// The instruction set that run-time dispatch chose: "AVX3", "AVX2".
const char* vector_target();
// Highway's AVX3_DL, which only the kernels that need it are compiled for: int8 and int16 dot
// products (VNNI) with AVX-512.
bool dot_products();

}  // namespace braid
