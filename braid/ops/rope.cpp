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
  BRAID_CHECK(c.first + c.rotary <= d && table.size(1) == c.rotary &&
              r.rows % std::max<int64_t>(tokens, 1) == 0);
  // A row holds all heads of a token, or one head when tokens and heads are one dimension.
  const int64_t rows_per_token = tokens > 0 ? r.rows / tokens : 1, heads_per_row = r.cols / d;
  const int64_t heads = rows_per_token * heads_per_row,
                head_stride = heads_per_row > 1 ? d : r.stride;
  BRAID_CHECK(rows_per_token == 1 || heads_per_row == 1);
  Tensor y = Tensor::empty(ctx, x.shape());
  parallel_for(
      ctx, tokens, std::max<int64_t>(1, 8192 / (heads * d)), [&](int64_t begin, int64_t end) {
        for (int64_t t = begin; t < end; ++t) {
          const float* angle = table.data() + t * c.rotary;
          rope_f32(x.data() + t * rows_per_token * r.stride, head_stride, heads, d, c.first, angle,
                   angle + pairs, pairs, sign, c.interleaved, y.data() + t * heads * d, d);
        }
      });
  return y;
}

// A token of a ragged batch: its position, and the length that scalings go by.
struct Place {
  int64_t position, length;
};

std::vector<Place> places(std::span<const int64_t> seq_starts, std::span<const int64_t> offsets,
                          std::span<const int64_t> contexts) {
  std::vector<Place> all;
  all.reserve(static_cast<size_t>(seq_starts.back()));
  for (size_t s = 0; s < offsets.size(); ++s) {
    for (int64_t t = seq_starts[s]; t < seq_starts[s + 1]; ++t) {
      const int64_t p = offsets[s] + t - seq_starts[s];
      all.push_back({p, contexts.empty() ? p + 1 : std::max(p + 1, contexts[s])});
    }
  }
  return all;
}

void write_row(const std::vector<Phase>& row, double factor, float* to) {
  for (size_t i = 0; i < row.size(); ++i) {
    to[i] = static_cast<float>(row[i].real() * factor);
    to[row.size() + i] = static_cast<float>(row[i].imag() * factor);
  }
}

// Frequencies that depend on the length of the sequence: every token from its own.
void table_by_length(const Context& ctx, const RopeConfig& c, const std::vector<Place>& tokens,
                     const Tensor& table) {
  const int64_t original = static_cast<int64_t>(c.scaling.original);
  const bool gradual = c.scaling.kind == RopeScaling::Kind::kDynamic;
  parallel_for(ctx, table.size(0), kStride, [&](int64_t begin, int64_t end) {
    std::vector<double> w;
    std::vector<Phase> row(static_cast<size_t>(c.rotary / 2));
    int64_t length = -1;  // that w is for
    for (int64_t t = begin; t < end; ++t) {
      const Place at = tokens[static_cast<size_t>(t)];
      const int64_t wanted = at.length <= original ? original : gradual ? at.length : original + 1;
      if (wanted != length) w = rope_frequencies(c.scaling, c.theta, c.rotary, wanted);
      length = wanted;
      phases(w, at.position, row.data());
      write_row(row, c.scaling.attention_factor, table.data() + t * c.rotary);
    }
  });
}

}  // namespace

Tensor rope_table(const Context& ctx, const RopeConfig& c, std::span<const int64_t> seq_starts,
                  std::span<const int64_t> offsets, std::span<const int64_t> contexts) {
  BRAID_CHECK(c.rotary >= 0 && c.rotary % 2 == 0 && offsets.size() + 1 == seq_starts.size());
  BRAID_CHECK(contexts.empty() || contexts.size() == offsets.size());
  const int64_t tokens = seq_starts.back(), pairs = c.rotary / 2;
  const std::vector<Place> at = places(seq_starts, offsets, contexts);
  Tensor table = Tensor::empty(ctx, {tokens, c.rotary});
  if (c.scaling.by_length()) {
    table_by_length(ctx, c, at, table);
    return table;
  }
  const std::vector<double> w = rope_frequencies(c.scaling, c.theta, c.rotary, 0);
  const bool shared_fine = tokens >= kStride && !ctx.dry();
  std::vector<Phase> all_fine(shared_fine ? static_cast<size_t>(kStride * pairs) : 0);
  for (int64_t p = 0; shared_fine && p < kStride; ++p) phases(w, p, all_fine.data() + p * pairs);
  parallel_for(ctx, tokens, kStride, [&](int64_t begin, int64_t end) {
    std::vector<Phase> coarse(static_cast<size_t>(pairs)), own_fine(static_cast<size_t>(pairs)),
        row(static_cast<size_t>(pairs));
    int64_t block = -1;
    for (int64_t t = begin; t < end; ++t) {
      const int64_t p = at[static_cast<size_t>(t)].position;
      if (p / kStride != block) {
        block = p / kStride;
        phases(w, block * kStride, coarse.data());
      }
      if (!shared_fine) phases(w, p % kStride, own_fine.data());
      const Phase* fine = shared_fine ? all_fine.data() + p % kStride * pairs : own_fine.data();
      for (int64_t i = 0; i < pairs; ++i) {
        const Phase &a = coarse[static_cast<size_t>(i)], &b = fine[i];
        row[static_cast<size_t>(i)] = {a.real() * b.real() - a.imag() * b.imag(),
                                       a.real() * b.imag() + a.imag() * b.real()};
      }
      write_row(row, c.scaling.attention_factor, table.data() + t * c.rotary);
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
