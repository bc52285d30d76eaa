#include "braid/layers/mixers/nsa/nsa_ops.h"

#include <algorithm>
#include <cmath>

#include "braid/core/parallel.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

// First rows of the whole blocks.
std::vector<int64_t> block_rows(std::span<const int64_t> seq_starts, int64_t block) {
  std::vector<int64_t> rows;
  for (size_t s = 0; s + 1 < seq_starts.size(); ++s) {
    for (int64_t r = seq_starts[s]; r + block <= seq_starts[s + 1]; r += block) rows.push_back(r);
  }
  return rows;
}

int64_t grain_of(int64_t cols) {
  return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, cols));
}

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

void mean_rows(const float* rows, int64_t ld, int64_t block, int64_t n, float* mean) {
  std::fill_n(mean, n, 0.0f);
  for (int64_t i = 0; i < block; ++i) {
    for (int64_t c = 0; c < n; ++c) mean[c] += rows[i * ld + c];
  }
  for (int64_t c = 0; c < n; ++c) mean[c] /= static_cast<float>(block);
}

Tensor block_means(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                   int64_t block) {
  const std::vector<int64_t> first = block_rows(seq_starts, block);
  const int64_t row = x.size(1) * x.size(2);
  Tensor y = Tensor::empty(ctx, {std::ssize(first), x.size(1), x.size(2)});
  parallel_for(ctx, std::ssize(first), 1, [&](int64_t b, int64_t) {
    mean_rows(x.data() + first[static_cast<size_t>(b)] * row, row, block, row, y.data() + b * row);
  });
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [x, first, block, row](Tape& t, const Tensor& dy) {
      Tensor dx = Tensor::zeros(t.context(), x.shape());
      parallel_for(t.context(), std::ssize(first), 1, [&](int64_t b, int64_t) {
        for (int64_t i = 0; i < block * row; ++i) {
          dx.data()[first[static_cast<size_t>(b)] * row + i] =
              dy.data()[b * row + i % row] / static_cast<float>(block);
        }
      });
      t.add(x, std::move(dx));
    });
  }
  return y;
}

Tensor gated_sum(const Context& ctx, const std::array<Tensor, 3>& o, const Tensor& gates) {
  const int64_t tokens = o[0].size(0), heads = o[0].size(1), d = o[0].size(2);
  const Rows g = rows_of(gates);
  BRAID_CHECK(g.cols == 3 * heads);
  Tensor y = Tensor::zeros(ctx, o[0].shape());
  parallel_for(ctx, tokens, grain_of(heads * d), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * heads; i < end * heads; ++i) {
      for (int64_t b = 0; b < 3; ++b) {
        const float by = sigmoid(gates.data()[i / heads * g.stride + b * heads + i % heads]);
        const float* from = o[static_cast<size_t>(b)].data() + i * d;
        for (int64_t c = 0; c < d; ++c) y.data()[i * d + c] += by * from[c];
      }
    }
  });
  Tape* tape = recording(ctx, {&o[0], &o[1], &o[2], &gates});
  if (tape == nullptr) return y;
  tape->record(y, [=](Tape& t, const Tensor& dy) {
    const Context& c = t.context();
    Tensor dg = Tensor::empty(c, gates.shape());
    std::array<Tensor, 3> d_o;
    for (Tensor& x : d_o) x = Tensor::empty(c, dy.shape());
    parallel_for(c, tokens, grain_of(heads * d), [&](int64_t begin, int64_t end) {
      for (int64_t i = begin * heads; i < end * heads; ++i) {
        for (int64_t b = 0; b < 3; ++b) {
          const int64_t column = b * heads + i % heads;
          const float by = sigmoid(gates.data()[i / heads * g.stride + column]);
          const float *from = o[static_cast<size_t>(b)].data() + i * d, *up = dy.data() + i * d;
          float* to = d_o[static_cast<size_t>(b)].data() + i * d;
          float dot = 0;
          for (int64_t e = 0; e < d; ++e) {
            dot += up[e] * from[e];
            to[e] = by * up[e];
          }
          dg.data()[i / heads * g.cols + column] = dot * by * (1 - by);
        }
      }
    });
    for (size_t b = 0; b < 3; ++b) t.add(o[b], std::move(d_o[b]));
    t.add(gates, std::move(dg));
  });
  return y;
}

}  // namespace braid
