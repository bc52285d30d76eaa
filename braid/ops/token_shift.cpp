#include "braid/ops/token_shift.h"

#include <algorithm>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

int64_t grain_of(int64_t cols) {
  return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, cols));
}

Shape with_rows(const Tensor& x, int64_t rows) {
  Shape shape = x.shape();
  shape[0] = rows;
  return shape;
}

// Copies row i of x to row to(i) of y, which has the same columns; a negative target is left out.
template <typename To>
void scatter_rows(const Context& ctx, const Tensor& x, const Tensor& y, const To& to) {
  const Rows n = rows_of(x);
  parallel_for(ctx, n.rows, grain_of(n.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = to(i);
      if (row >= 0) std::copy_n(x.data() + i * n.stride, n.cols, y.data() + row * n.cols);
    }
  });
}

void zero_row(const Context& ctx, const Tensor& y, int64_t row) {
  if (ctx.dry()) return;
  const int64_t cols = y.count() / y.size(0);
  std::fill_n(y.data() + row * cols, cols, 0.0f);
}

// The sequence of every row.
std::vector<int64_t> sequence_of_rows(std::span<const int64_t> seq_starts) {
  std::vector<int64_t> of(static_cast<size_t>(seq_starts.back()));
  for (size_t s = 0; s + 1 < seq_starts.size(); ++s) {
    std::fill(of.begin() + seq_starts[s], of.begin() + seq_starts[s + 1], static_cast<int64_t>(s));
  }
  return of;
}

Tensor grow(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts, bool at_end) {
  const int64_t sequences = std::ssize(seq_starts) - 1;
  const std::vector<int64_t> of = sequence_of_rows(seq_starts);
  Tensor y = Tensor::empty(ctx, with_rows(x, x.size(0) + sequences));
  for (int64_t s = 0; s < sequences; ++s) {
    zero_row(ctx, y, at_end ? seq_starts[s + 1] + s : seq_starts[s] + s);
  }
  scatter_rows(ctx, x, y,
               [&](int64_t i) { return i + of[static_cast<size_t>(i)] + (at_end ? 0 : 1); });
  return y;
}

// The rows of y that grow() made of x's.
Tensor shrink(const Context& ctx, const Tensor& y, std::span<const int64_t> seq_starts,
              bool at_end) {
  const std::vector<int64_t> of = sequence_of_rows(seq_starts);
  Tensor x = Tensor::empty(ctx, with_rows(y, seq_starts.back()));
  const Rows n = rows_of(y);
  parallel_for(ctx, x.size(0), grain_of(n.cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t row = i + of[static_cast<size_t>(i)] + (at_end ? 0 : 1);
      std::copy_n(y.data() + row * n.stride, n.cols, x.data() + i * n.cols);
    }
  });
  return x;
}

}  // namespace

Tensor token_difference(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                        std::span<const Tensor> last) {
  BRAID_CHECK(x.rank() == 2 && x.contiguous() && seq_starts.back() == x.size(0));
  BRAID_CHECK(last.empty() || last.size() + 1 == seq_starts.size());
  const int64_t cols = x.size(1);
  const std::vector<int64_t> of = sequence_of_rows(seq_starts);
  Tensor y = Tensor::empty(ctx, x.shape());
  parallel_for(ctx, x.size(0), grain_of(cols), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const size_t s = static_cast<size_t>(of[static_cast<size_t>(i)]);
      const float* now = x.data() + i * cols;
      const float* before = i > seq_starts[s] ? now - cols
                            : last.empty()    ? nullptr
                                              : last[s].data();
      float* to = y.data() + i * cols;
      for (int64_t c = 0; c < cols; ++c) to[c] = (before != nullptr ? before[c] : 0.0f) - now[c];
    }
  });
  for (size_t s = 0; s < last.size() && !ctx.dry(); ++s) {
    if (seq_starts[s + 1] == seq_starts[s]) continue;
    std::copy_n(x.data() + (seq_starts[s + 1] - 1) * cols, cols, last[s].data());
  }
  if (Tape* tape = recording(ctx, {&x})) {
    BRAID_CHECK(last.empty());
    std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
    tape->record(y, [x, starts = std::move(starts)](Tape& t, const Tensor& dy) {
      const int64_t width = x.size(1);
      const std::vector<int64_t> sequence = sequence_of_rows(starts);
      Tensor dx = Tensor::empty(t.context(), x.shape());
      parallel_for(t.context(), x.size(0), grain_of(width), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const bool ends =
              i + 1 == starts[static_cast<size_t>(sequence[static_cast<size_t>(i)]) + 1];
          const float *up = dy.data() + i * width, *next = ends ? nullptr : up + width;
          float* to = dx.data() + i * width;
          for (int64_t c = 0; c < width; ++c) to[c] = (next != nullptr ? next[c] : 0.0f) - up[c];
        }
      });
      t.add(x, std::move(dx));
    });
  }
  return y;
}

Tensor with_zero_rows(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                      bool at_end) {
  Tensor y = grow(ctx, x, seq_starts, at_end);
  if (Tape* tape = recording(ctx, {&x})) {
    std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
    tape->record(y, [x, starts = std::move(starts), at_end](Tape& t, const Tensor& dy) {
      t.add(x, shrink(t.context(), dy, starts, at_end));
    });
  }
  return y;
}

Tensor without_last_rows(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts) {
  Tensor y = shrink(ctx, x, seq_starts, true);
  if (Tape* tape = recording(ctx, {&x})) {
    std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
    tape->record(y, [x, starts = std::move(starts)](Tape& t, const Tensor& dy) {
      t.add(x, grow(t.context(), dy, starts, true));
    });
  }
  return y;
}

}  // namespace braid
