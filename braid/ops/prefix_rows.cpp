#include "braid/ops/prefix_rows.h"

#include <algorithm>

#include "braid/core/parallel.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

// What each row is when `count` rows stand before every sequence that begins: row i >= 0 of the
// sequences' own, or row -1 - i of the prefix.
std::vector<int64_t> origins(int64_t count, std::span<const int64_t> seq_starts,
                             const std::vector<bool>& begins) {
  BRAID_CHECK(begins.size() + 1 == seq_starts.size());
  std::vector<int64_t> out;
  for (size_t s = 0; s < begins.size(); ++s) {
    for (int64_t j = 0; begins[s] && j < count; ++j) out.push_back(-1 - j);
    for (int64_t i = seq_starts[s]; i < seq_starts[s + 1]; ++i) out.push_back(i);
  }
  return out;
}

// The sequences' own rows of x, [tokens, D].
Tensor own_rows(const Context& ctx, const Tensor& x, const std::vector<int64_t>& origin,
                int64_t tokens) {
  const Rows from = rows_of(x);
  BRAID_CHECK(from.rows == std::ssize(origin));
  Tensor y = Tensor::empty(ctx, {tokens, from.cols});
  parallel_for(ctx, from.rows, 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t i = origin[static_cast<size_t>(r)];
      if (i >= 0) std::copy_n(x.data() + r * from.stride, from.cols, y.data() + i * from.cols);
    }
  });
  return y;
}

// x where the sequences' own rows are, `prefix` (null: zeros) elsewhere.
Tensor spread_rows(const Context& ctx, const Tensor& x, const float* prefix,
                   const std::vector<int64_t>& origin) {
  const Rows from = rows_of(x);
  Tensor y = Tensor::empty(ctx, {std::ssize(origin), from.cols});
  parallel_for(ctx, y.size(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      const int64_t i = origin[static_cast<size_t>(r)];
      float* to = y.data() + r * from.cols;
      if (i >= 0) {
        std::copy_n(x.data() + i * from.stride, from.cols, to);
      } else if (prefix != nullptr) {
        std::copy_n(prefix + (-1 - i) * from.cols, from.cols, to);
      } else {
        std::fill_n(to, from.cols, 0.0f);
      }
    }
  });
  return y;
}

// Split over columns, for each element is summed in the order of the sequences.
void add_prefix_gradient(const Context& ctx, const Tensor& dy, const std::vector<int64_t>& origin,
                         Parameter& prefix) {
  if (!prefix.grad.defined()) return;
  const int64_t d = prefix.value.size(1);
  parallel_for(ctx, d, 32, [&](int64_t begin, int64_t end) {
    for (size_t r = 0; r < origin.size(); ++r) {
      if (origin[r] >= 0) continue;
      float* to = prefix.grad.data() + (-1 - origin[r]) * d;
      const float* from = dy.data() + static_cast<int64_t>(r) * d;
      for (int64_t i = begin; i < end; ++i) to[i] += from[i];
    }
  });
}

}  // namespace

Tensor with_prefix(const Context& ctx, const Tensor& x, Parameter& prefix,
                   std::span<const int64_t> seq_starts, const std::vector<bool>& begins) {
  const std::vector<int64_t> origin = origins(prefix.value.size(0), seq_starts, begins);
  Tensor y = spread_rows(ctx, x, prefix.value.data(), origin);
  if (Tape* tape = recording(ctx, {&x}, prefix.grad.defined())) {
    tape->record(y, [x, origin, &prefix](Tape& t, const Tensor& dy) {
      add_prefix_gradient(t.context(), dy, origin, prefix);
      if (t.wants(x)) t.add(x, own_rows(t.context(), dy, origin, x.size(0)));
    });
  }
  return y;
}

Tensor without_prefix(const Context& ctx, const Tensor& x, int64_t count,
                      std::span<const int64_t> seq_starts, const std::vector<bool>& begins) {
  const std::vector<int64_t> origin = origins(count, seq_starts, begins);
  Tensor y = own_rows(ctx, x, origin, seq_starts.back());
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [x, origin](Tape& t, const Tensor& dy) {
      t.add(x, spread_rows(t.context(), dy, nullptr, origin));
    });
  }
  return y;
}

}  // namespace braid
