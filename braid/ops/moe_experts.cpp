#include "braid/ops/moe_experts.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "braid/core/parallel.h"
#include "braid/kernels/activation/activation.h"
#include "braid/kernels/gemm/gemm.h"
#include "braid/kernels/moe/moe.h"
#include "braid/ops/rows.h"
#include "braid/ops/weight_product.h"

namespace braid {
namespace {

constexpr int64_t kTileRows = 256, kTileCols = 512;  // of one product
constexpr int64_t kRowGrain = 16;

// The routed rows in the order of their experts; row r of expert e lies in [starts[e], starts[e +
// 1]).
struct Dispatch {
  int64_t tokens, k, experts, width, ffn;
  std::vector<int64_t> starts;  // [E + 1]; zeros on a dry context
  Tensor expert;                // i32 [T, k]
  Tensor source;                // i32 [R]: t * k + j of row r
  Tensor row;                   // i32 [T, k]: r of t * k + j

  int64_t rows() const { return tokens * k; }
  int64_t count(int64_t e) const {
    return starts[static_cast<size_t>(e) + 1] - starts[static_cast<size_t>(e)];
  }
};

Dispatch dispatch(const Context& ctx, const Tensor& experts, int64_t count, int64_t width,
                  int64_t ffn) {
  Dispatch d{experts.size(0),
             experts.size(1),
             count,
             width,
             ffn,
             std::vector<int64_t>(static_cast<size_t>(count) + 1, 0),
             experts,
             Tensor::empty(ctx, {experts.count()}, DType::kI32),
             Tensor::empty(ctx, experts.shape(), DType::kI32)};
  if (ctx.dry()) return d;
  const int32_t* expert = experts.data<int32_t>();
  for (int64_t i = 0; i < d.rows(); ++i) {
    BRAID_CHECK(expert[i] >= 0 && expert[i] < count);
    ++d.starts[static_cast<size_t>(expert[i]) + 1];
  }
  for (size_t e = 0; e < static_cast<size_t>(count); ++e) d.starts[e + 1] += d.starts[e];
  std::vector<int64_t> next(d.starts.begin(), d.starts.end() - 1);
  for (int64_t i = 0; i < d.rows(); ++i) {
    const int64_t r = next[static_cast<size_t>(expert[i])]++;
    d.source.data<int32_t>()[r] = static_cast<int32_t>(i);
    d.row.data<int32_t>()[i] = static_cast<int32_t>(r);
  }
  return d;
}

// into [R, D]: the token's row of x for every routed row.
void gather(const Context& ctx, const Dispatch& d, const Tensor& x, const Tensor& into) {
  const Rows n = rows_of(x);
  parallel_for(ctx, d.rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      std::memcpy(into.data() + r * n.cols, x.data() + d.source.data<int32_t>()[r] / d.k * n.stride,
                  static_cast<size_t>(n.cols) * sizeof(float));
    }
  });
}

// y [T, D] = sum over a token's k rows, weighted where weights [T, k] is defined.
Tensor combine(const Context& ctx, const Dispatch& d, const Tensor& rows, const Tensor& weights) {
  Tensor y = Tensor::empty(ctx, {d.tokens, d.width});
  parallel_for(ctx, d.tokens, kRowGrain, [&](int64_t begin, int64_t end) {
    const float* from[kMaxExpertsPerToken];
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t j = 0; j < d.k; ++j) {
        from[j] = rows.data() + d.row.data<int32_t>()[t * d.k + j] * d.width;
      }
      weighted_rows_f32(d.k, from, weights.defined() ? weights.data() + t * d.k : nullptr, d.width,
                        y.data() + t * d.width);
    }
  });
  return y;
}

struct Tile {
  int64_t expert, row, rows, col, cols;
};

// Cuts an [each expert's rows, n] output (or [m, n] per expert when m is given) into tiles of fixed
// size.
std::vector<Tile> tiles_of(const Dispatch& d, int64_t n, int64_t m = -1) {
  std::vector<Tile> tiles;
  for (int64_t e = 0; e < d.experts; ++e) {
    if (d.count(e) == 0) continue;
    const int64_t rows = m >= 0 ? m : d.count(e);
    for (int64_t r = 0; r < rows; r += kTileRows) {
      for (int64_t c = 0; c < n; c += kTileCols) {
        tiles.push_back({e, r, std::min(kTileRows, rows - r), c, std::min(kTileCols, n - c)});
      }
    }
  }
  return tiles;
}

void count(const Context& ctx, const Dispatch& d, int64_t n, int64_t k) {
  ctx.count_product(2.0 * static_cast<double>(d.rows()) * static_cast<double>(n) *
                    static_cast<double>(k));
}

// y [R, n] = x [R, k] w_e^T, w [E, n, k].
void forward_product(const Context& ctx, const Dispatch& d, const Tensor& x, const Parameter& w,
                     const Tensor& y) {
  const int64_t n = w.value.size(1), k = w.value.size(2);
  std::vector<WeightJob> jobs;
  for (int64_t e = 0; e < d.experts; ++e) {
    const int64_t first = d.starts[static_cast<size_t>(e)];
    if (d.count(e) == 0) continue;
    jobs.push_back({weight_view(w, e), first, d.count(e), y.data() + first * n, n});
  }
  weight_product(ctx, x.data(), k, jobs);
  if (ctx.dry()) count(ctx, d, n, k);  // nobody knows who goes where
}

// dx [R, k] = dy [R, n] w_e, w [E, n, k].
void input_product(const Context& ctx, const Dispatch& d, const Tensor& dy, const Tensor& w,
                   const Tensor& dx) {
  const int64_t n = w.size(1), k = w.size(2);
  count(ctx, d, n, k);
  const std::vector<Tile> tiles = tiles_of(d, k);
  parallel_for(ctx, static_cast<int64_t>(tiles.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Tile& t = tiles[static_cast<size_t>(i)];
      const int64_t row = d.starts[static_cast<size_t>(t.expert)] + t.row;
      gemm_f32(false, false, t.rows, t.cols, n, dy.data() + row * n, n,
               w.data() + t.expert * n * k + t.col, k, 0, dx.data() + row * k + t.col, k);
    }
  });
}

// dw_e [n, k] += dy_e^T x_e over the rows of each expert.
void weight_gradient(const Context& ctx, const Dispatch& d, const Tensor& dy, const Tensor& x,
                     const Tensor& dw) {
  const int64_t n = dw.size(1), k = dw.size(2);
  count(ctx, d, n, k);
  const std::vector<Tile> tiles = tiles_of(d, k, n);
  parallel_for(ctx, static_cast<int64_t>(tiles.size()), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const Tile& t = tiles[static_cast<size_t>(i)];
      const int64_t first = d.starts[static_cast<size_t>(t.expert)];
      gemm_f32(true, false, t.rows, t.cols, d.count(t.expert), dy.data() + first * n + t.row, n,
               x.data() + first * k + t.col, k, 1, dw.data() + (t.expert * n + t.row) * k + t.col,
               k);
    }
  });
}

// The expert of routed row r.
int64_t expert_of(const Dispatch& d, int64_t r) {
  return d.expert.data<int32_t>()[d.source.data<int32_t>()[r]];
}

void add_row(float* row, const float* bias, int64_t n) {
  for (int64_t i = 0; i < n; ++i) row[i] += bias[i];
}

// Each expert's bias is added to its rows [R, n] in place.
void add_expert_bias(const Context& ctx, const Dispatch& d, Parameter* bias, const Tensor& rows) {
  if (bias == nullptr) return;
  const int64_t n = rows.size(1);
  parallel_for(ctx, d.rows(), kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      add_row(rows.data() + r * n, bias->value.data() + expert_of(d, r) * n, n);
    }
  });
}

// bias.grad [E, n] += the sum over each expert's rows [R, n], times the rows' weights where given
// (in the order of `source`).
void add_bias_gradient(const Context& ctx, const Dispatch& d, Parameter* bias, const Tensor& rows,
                       const Tensor& weights) {
  if (bias == nullptr || !bias->grad.defined()) return;
  const int64_t n = rows.size(1), blocks = (n + kTileCols - 1) / kTileCols;
  parallel_for(ctx, d.experts * blocks, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t e = i / blocks, first = i % blocks * kTileCols;
      const int64_t last = std::min(n, first + kTileCols);
      float* sum = bias->grad.data() + e * n;
      for (int64_t r = d.starts[static_cast<size_t>(e)]; r < d.starts[static_cast<size_t>(e) + 1];
           ++r) {
        const float w = weights.defined() ? weights.data()[d.source.data<int32_t>()[r]] : 1.0f;
        for (int64_t c = first; c < last; ++c) sum[c] += w * rows.data()[r * n + c];
      }
    }
  });
}

float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// a [F] of one routed row: act(gate) * up, or act(up).
void inside(const ExpertWeights& w, const float* inner, float* a, int64_t ffn) {
  if (w.gated) {
    gated_f32(w.act, inner, inner + ffn, a, ffn);
  } else {
    activate_f32(w.act.act, inner, a, ffn);
  }
}

// The same backwards, as expert_inner_backward_f32 says; inner and dinner [F] where ungated.
float inside_backward(const ExpertWeights& w, const float* inner, const float* da, float weight,
                      float* weighted, float* dinner, int64_t ffn) {
  if (w.gated) return expert_inner_backward_f32(w.act, ffn, inner, da, weight, weighted, dinner);
  activate_f32(w.act.act, inner, weighted, ffn);
  const float dweight = dot(da, weighted, ffn);
  activate_backward_f32(w.act.act, inner, da, dinner, ffn);
  for (int64_t i = 0; i < ffn; ++i) {
    weighted[i] *= weight;
    dinner[i] *= weight;
  }
  return dweight;
}

struct Grads {
  Tensor dx;        // [T, D]
  Tensor dweights;  // [T, k]
};

// The routing weight scales the rows inside: with da = dy down_e, its own gradient is da . a (and
// dy . b with a bias b) and down's is dy^T (w a), so that the experts' outputs need not be kept.
Grads experts_backward(const Context& ctx, const Tensor& x, const ExpertWeights& w,
                       const Dispatch& d, const Tensor& weights, const Tensor& inner,
                       const Tensor& dy) {
  const int64_t rows = d.rows(), ffn = d.ffn, columns = inner.size(1);
  Grads g{{}, Tensor::empty(ctx, weights.shape())};
  const Tensor gathered = Tensor::empty(ctx, {rows, d.width});
  gather(ctx, d, dy, gathered);
  const Tensor dinner = Tensor::empty(ctx, {rows, columns});
  {
    const Tensor da = Tensor::empty(ctx, {rows, ffn}), weighted = Tensor::empty(ctx, {rows, ffn});
    input_product(ctx, d, gathered, w.down->value, da);
    parallel_for(ctx, rows, kRowGrain, [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        const int32_t i = d.source.data<int32_t>()[r];
        float& dw = g.dweights.data()[i];
        dw = inside_backward(w, inner.data() + r * columns, da.data() + r * ffn, weights.data()[i],
                             weighted.data() + r * ffn, dinner.data() + r * columns, ffn);
        if (w.down_bias == nullptr) continue;
        dw += dot(gathered.data() + r * d.width,
                  w.down_bias->value.data() + expert_of(d, r) * d.width, d.width);
      }
    });
    if (w.down->grad.defined()) weight_gradient(ctx, d, gathered, weighted, w.down->grad);
    add_bias_gradient(ctx, d, w.down_bias, gathered, weights);
  }
  gather(ctx, d, x, gathered);
  if (w.gate_up->grad.defined()) weight_gradient(ctx, d, dinner, gathered, w.gate_up->grad);
  add_bias_gradient(ctx, d, w.gate_up_bias, dinner, {});
  input_product(ctx, d, dinner, w.gate_up->value, gathered);
  g.dx = combine(ctx, d, gathered, {});
  return g;
}

bool trains(const ExpertWeights& w) {
  for (const Parameter* p : {w.gate_up, w.down, w.gate_up_bias, w.down_bias}) {
    if (p != nullptr && p->grad.defined()) return true;
  }
  return false;
}

void check_shapes(const ExpertWeights& w, const Tensor& x, const Tensor& experts,
                  const Tensor& weights) {
  const Shape down = w.down->value.shape();
  const int64_t count = down[0], width = down[1], ffn = down[2];
  BRAID_CHECK(width == rows_of(x).cols);
  const int64_t columns = (w.gated ? 2 : 1) * ffn;
  BRAID_CHECK(w.gate_up->value.shape() == (Shape{count, columns, width}));
  BRAID_CHECK(w.gate_up_bias == nullptr ||
              w.gate_up_bias->value.shape() == (Shape{count, columns}));
  BRAID_CHECK(w.down_bias == nullptr || w.down_bias->value.shape() == (Shape{count, width}));
  BRAID_CHECK(experts.dtype() == DType::kI32 && experts.shape() == weights.shape());
  BRAID_CHECK(experts.size(0) == x.size(0) && experts.size(1) <= kMaxExpertsPerToken);
}

}  // namespace

Tensor moe_experts(const Context& ctx, const Tensor& x, const ExpertWeights& w,
                   const Tensor& experts, const Tensor& weights) {
  check_shapes(w, x, experts, weights);
  const int64_t width = w.down->value.size(1), ffn = w.down->value.size(2);
  const auto d =
      std::make_shared<const Dispatch>(dispatch(ctx, experts, w.down->value.size(0), width, ffn));
  const int64_t rows = d->rows(), columns = w.gate_up->value.size(1);
  const Tensor inner = Tensor::empty(ctx, {rows, columns});
  const Tensor gathered = Tensor::empty(ctx, {rows, width});
  gather(ctx, *d, x, gathered);
  forward_product(ctx, *d, gathered, *w.gate_up, inner);
  add_expert_bias(ctx, *d, w.gate_up_bias, inner);
  const Tensor a = Tensor::empty(ctx, {rows, ffn});
  parallel_for(ctx, rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t r = begin; r < end; ++r) {
      inside(w, inner.data() + r * columns, a.data() + r * ffn, ffn);
    }
  });
  forward_product(ctx, *d, a, *w.down, gathered);
  add_expert_bias(ctx, *d, w.down_bias, gathered);
  Tensor y = combine(ctx, *d, gathered, weights);
  if (Tape* tape = recording(ctx, {&x, &weights}, trains(w))) {
    tape->record(y, [x, w, d, weights, inner](Tape& t, const Tensor& dy) {
      Grads g = experts_backward(t.context(), x, w, *d, weights, inner, dy);
      t.add(weights, std::move(g.dweights));
      t.add(x, g.dx.reshape(x.shape()));
    });
  }
  return y;
}

Tensor gate_rows(const Context& ctx, const Tensor& x, const Tensor& gate) {
  BRAID_CHECK(x.rank() == 2 && x.contiguous() && gate.contiguous() && gate.count() == x.size(0));
  const int64_t rows = x.size(0), width = x.size(1);
  const auto sigmoid = [](float v) { return 1.0f / (1.0f + std::exp(-v)); };
  Tensor y = Tensor::empty(ctx, x.shape());
  parallel_for(ctx, rows, kRowGrain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* row = x.data() + t * width;
      const float s = sigmoid(gate.data()[t]);
      weighted_rows_f32(1, &row, &s, width, y.data() + t * width);
    }
  });
  if (Tape* tape = recording(ctx, {&x, &gate})) {
    tape->record(y, [x, gate, rows, width, sigmoid](Tape& t, const Tensor& dy) {
      Tensor dx = Tensor::empty(t.context(), x.shape());
      Tensor dgate = Tensor::empty(t.context(), gate.shape());
      parallel_for(t.context(), rows, kRowGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          const float *row = x.data() + i * width, *up = dy.data() + i * width;
          const float s = sigmoid(gate.data()[i]);
          weighted_rows_f32(1, &up, &s, width, dx.data() + i * width);
          float dot = 0;
          for (int64_t c = 0; c < width; ++c) dot += row[c] * up[c];
          dgate.data()[i] = dot * s * (1.0f - s);
        }
      });
      t.add(x, std::move(dx));
      t.add(gate, std::move(dgate));
    });
  }
  return y;
}

}  // namespace braid
