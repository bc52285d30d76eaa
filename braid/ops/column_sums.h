#pragma once
// Sums over rows that several ranges of a parallel_for contribute to, in an order fixed by the
// sizes: every range adds to its own partial sums, which are added up in the order of the ranges.

#include "braid/core/tensor.h"

namespace braid {

class ColumnSums {
 public:
  // For a parallel_for over `rows` items in ranges of `grain`; partial sums start at zero.
  ColumnSums(const Context& ctx, int64_t rows, int64_t grain, int64_t columns);
  // The partial sums [columns] of the range that starts at item `begin`.
  float* range(int64_t begin) const { return partial_.data() + begin / grain_ * columns_; }
  // into[c / fold] += sum over ranges of column c; `into` has columns / fold elements.
  void add_to(const Context& ctx, const Tensor& into, int64_t fold = 1) const;

 private:
  int64_t grain_;
  int64_t ranges_;
  int64_t columns_;
  Tensor partial_;  // [ranges, columns]
};

}  // namespace braid
