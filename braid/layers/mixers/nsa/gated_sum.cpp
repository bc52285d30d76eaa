#include "braid/layers/mixers/nsa/gated_sum.h"

#include <algorithm>
#include <cmath>

#include "braid/core/parallel.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

int64_t grain_of(int64_t cols) {
  return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, cols));
}

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }

}  // namespace

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
