#include "braid/ops/rope.h"

#include <cmath>
#include <complex>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/kernels/rope/rope.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

// e^(i p w) = e^(i 64 (p / 64) w) e^(i (p % 64) w): two sine calls per 64 positions instead of 64,
// in double, and the same bits for a position wherever its sequence was cut.
constexpr int64_t kStride = 64;

using Phase = std::complex<double>;

std::vector<double> frequencies(const RopeConfig& c) {
  std::vector<double> w(static_cast<size_t>(c.rotary / 2));
  for (size_t i = 0; i < w.size(); ++i) {
    w[i] = std::pow(c.theta, -2.0 * static_cast<double>(i) / static_cast<double>(c.rotary));
  }
  return w;
}

void phases(const std::vector<double>& w, int64_t position, Phase* to) {
  for (size_t i = 0; i < w.size(); ++i) {
    const double angle = static_cast<double>(position) * w[i];
    to[i] = {std::cos(angle), std::sin(angle)};
  }
}

Tensor turn(const Context& ctx, const RopeConfig& c, const Tensor& x, const Tensor& table,
            float sign) {
  const Rows r = rows_of(x);
  const int64_t tokens = table.size(0), d = x.size(-1), pairs = c.rotary / 2;
  BRAID_CHECK(c.rotary <= d && table.size(1) == c.rotary &&
              r.rows % std::max<int64_t>(tokens, 1) == 0);
  // A row holds all heads of a token, or one head when tokens and heads are one dimension.
  const int64_t rows_per_token = tokens > 0 ? r.rows / tokens : 1, heads_per_row = r.cols / d;
  const int64_t heads = rows_per_token * heads_per_row,
                head_stride = heads_per_row > 1 ? d : r.stride;
  BRAID_CHECK(rows_per_token == 1 || heads_per_row == 1);
  Tensor y = Tensor::empty(ctx, x.shape());
  parallel_for(ctx, tokens, std::max<int64_t>(1, 8192 / (heads * d)),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t) {
                   const float* angle = table.data() + t * c.rotary;
                   rope_f32(x.data() + t * rows_per_token * r.stride, head_stride, heads, d, angle,
                            angle + pairs, pairs, sign, c.interleaved, y.data() + t * heads * d, d);
                 }
               });
  return y;
}

}  // namespace

Tensor rope_table(const Context& ctx, const RopeConfig& c, std::span<const int64_t> seq_starts,
                  std::span<const int64_t> offsets) {
  BRAID_CHECK(c.rotary >= 0 && c.rotary % 2 == 0 && offsets.size() + 1 == seq_starts.size());
  const int64_t tokens = seq_starts.back(), pairs = c.rotary / 2;
  std::vector<int64_t> positions;
  positions.reserve(static_cast<size_t>(tokens));
  for (size_t s = 0; s < offsets.size(); ++s) {
    for (int64_t t = seq_starts[s]; t < seq_starts[s + 1]; ++t)
      positions.push_back(offsets[s] + t - seq_starts[s]);
  }
  Tensor table = Tensor::empty(ctx, {tokens, c.rotary});
  const std::vector<double> w = frequencies(c);
  const bool shared_fine = tokens >= kStride && !ctx.dry();
  std::vector<Phase> all_fine(shared_fine ? static_cast<size_t>(kStride * pairs) : 0);
  for (int64_t p = 0; shared_fine && p < kStride; ++p) phases(w, p, all_fine.data() + p * pairs);
  parallel_for(ctx, tokens, kStride, [&](int64_t begin, int64_t end) {
    std::vector<Phase> coarse(static_cast<size_t>(pairs)), own_fine(static_cast<size_t>(pairs));
    int64_t block = -1;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t p = positions[static_cast<size_t>(t)];
      if (p / kStride != block) {
        block = p / kStride;
        phases(w, block * kStride, coarse.data());
      }
      if (!shared_fine) phases(w, p % kStride, own_fine.data());
      const Phase* fine = shared_fine ? all_fine.data() + p % kStride * pairs : own_fine.data();
      float* row = table.data() + t * c.rotary;
      for (int64_t i = 0; i < pairs; ++i) {
        const Phase &a = coarse[static_cast<size_t>(i)], &b = fine[i];
        row[i] = static_cast<float>(a.real() * b.real() - a.imag() * b.imag());
        row[pairs + i] = static_cast<float>(a.real() * b.imag() + a.imag() * b.real());
      }
    }
  });
  return table;
}

Tensor rope(const Context& ctx, const RopeConfig& c, const Tensor& x, const Tensor& table) {
  Tensor y = turn(ctx, c, x, table, 1.0f);
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [c, x, table](Tape& t, const Tensor& d_y) {
      t.add(x, rope_backward(t.context(), c, d_y, table));
    });
  }
  return y;
}

Tensor rope_backward(const Context& ctx, const RopeConfig& c, const Tensor& d_y,
                     const Tensor& table) {
  return turn(ctx, c, d_y, table, -1.0f);
}

}  // namespace braid
