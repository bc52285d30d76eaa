#pragma once
// The one product of activations with weights: every type of weight, one matrix or many, a few rows
// or thousands. Forward only; gradients are products of f32 (ops/product.h).

#include <span>

#include "braid/ops/parameter.h"

namespace braid {

// y = x_rows w^T: rows [row, row + rows) of x through one matrix [out, in].
struct WeightJob {
  WeightView weight;
  int64_t row = 0, rows = 0;
  float* y = nullptr;  // its first row; [rows, out] with row stride ldy
  int64_t ldy = 0;
};

// Runs all jobs over x [., in] (row stride ldx) in as few parallel regions as there are steps.
// Jobs are several weights of the same rows (q, k and v) or the experts, each with rows of its own.
// Split by sizes alone: bitwise equal for any number of threads. With quantised weights a row's
// result does not depend on the rows it is computed with either; with f32 and bf16 up to four rows
// take another order of summation than more (docs/numerics.md). Counts 2 rows out in FLOPs a job.
void weight_product(const Context& ctx, const float* x, int64_t ldx,
                    std::span<const WeightJob> jobs);

// One job over all rows of x.
void weight_product(const Context& ctx, int64_t rows, const float* x, int64_t ldx,
                    const WeightView& weight, float* y, int64_t ldy);

// Whether many rows times weights of that type, with `cols` columns, are a library's on this
// machine, with its buffers.
bool product_needs_library(WeightType type, int64_t cols);

}  // namespace braid
