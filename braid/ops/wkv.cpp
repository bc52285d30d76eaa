#include "braid/ops/wkv.h"

#include <algorithm>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"
#include "braid/ops/token_shift.h"

namespace braid {
namespace {

using Decay = RecurrenceConfig::Decay;
using Erase = RecurrenceConfig::Erase;

struct HeadRows {
  int64_t tokens, heads, k, v;
  int64_t grain() const {
    const int64_t row = std::max<int64_t>(1, heads * (k + v));
    return std::max<int64_t>({1, (1 << 14) / row, (tokens + 63) / 64});
  }
};

}  // namespace

RecurrenceConfig pre_read_recurrence() { return {.decay = Decay::kVector, .erase = Erase::kNone}; }

RecurrenceInputs pre_read_operands(const Context& ctx, const PreReadInputs& in,
                                   std::span<const int64_t> seq_starts) {
  RecurrenceInputs later;
  later.q = with_zero_rows(ctx, in.r, seq_starts, true);
  later.k = with_zero_rows(ctx, in.k, seq_starts, false);
  later.v = with_zero_rows(ctx, in.v, seq_starts, false);
  later.g = with_zero_rows(ctx, in.g, seq_starts, false);
  return later;
}

std::vector<int64_t> pre_read_starts(std::span<const int64_t> seq_starts) {
  std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
  for (size_t s = 0; s < starts.size(); ++s) starts[s] += static_cast<int64_t>(s);
  return starts;
}

Tensor pre_read(const Context& ctx, const PreReadInputs& in, std::span<const int64_t> seq_starts,
                std::span<float* const> states) {
  const Tensor o = recurrence(ctx, pre_read_recurrence(), pre_read_operands(ctx, in, seq_starts),
                              pre_read_starts(seq_starts), states);
  return without_last_rows(ctx, o, seq_starts);
}

Tensor add_bonus(const Context& ctx, const Tensor& o, const Tensor& r, const Tensor& k,
                 const Tensor& v, Parameter& u) {
  const HeadRows n{o.size(0), o.size(1), r.size(2), o.size(2)};
  const Rows rr = rows_of(r), kr = rows_of(k), vr = rows_of(v);
  BRAID_CHECK(o.contiguous() && v.shape() == o.shape() && r.shape() == k.shape());
  BRAID_CHECK(u.value.count() == n.heads * n.k);
  Tensor y = Tensor::empty(ctx, o.shape());
  Tensor weight = Tensor::empty(ctx, {n.tokens, n.heads});
  parallel_for(ctx, n.tokens, n.grain(), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < n.heads; ++h) {
        const float *rd = r.data() + t * rr.stride + h * n.k,
                    *kd = k.data() + t * kr.stride + h * n.k;
        const float *ud = u.value.data() + h * n.k, *vd = v.data() + t * vr.stride + h * n.v;
        float sum = 0;
        for (int64_t c = 0; c < n.k; ++c) sum += rd[c] * kd[c] * ud[c];
        weight.data()[t * n.heads + h] = sum;
        const int64_t at = (t * n.heads + h) * n.v;
        for (int64_t c = 0; c < n.v; ++c) y.data()[at + c] = o.data()[at + c] + sum * vd[c];
      }
    }
  });
  Tape* tape = recording(ctx, {&o, &r, &k, &v}, u.grad.defined());
  if (tape == nullptr) return y;
  tape->record(y, [o, r, k, v, &u, n, rr, kr, vr, weight](Tape& t, const Tensor& dy) {
    const Context& c = t.context();
    Tensor dr = Tensor::empty(c, r.shape()), dk = Tensor::empty(c, k.shape()),
           dv = Tensor::empty(c, v.shape());
    const ColumnSums sums(c, n.tokens, n.grain(), n.heads * n.k);
    parallel_for(c, n.tokens, n.grain(), [&](int64_t begin, int64_t end) {
      float* du = sums.range(begin);
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t h = 0; h < n.heads; ++h) {
          const int64_t at = (i * n.heads + h) * n.v, key = (i * n.heads + h) * n.k;
          const float *rd = r.data() + i * rr.stride + h * n.k,
                      *kd = k.data() + i * kr.stride + h * n.k, *ud = u.value.data() + h * n.k,
                      *vd = v.data() + i * vr.stride + h * n.v, *up = dy.data() + at;
          const float own = weight.data()[i * n.heads + h];
          float dot = 0;
          for (int64_t e = 0; e < n.v; ++e) {
            dot += up[e] * vd[e];
            dv.data()[at + e] = own * up[e];
          }
          for (int64_t e = 0; e < n.k; ++e) {
            dr.data()[key + e] = dot * kd[e] * ud[e];
            dk.data()[key + e] = dot * rd[e] * ud[e];
            du[h * n.k + e] += dot * rd[e] * kd[e];
          }
        }
      }
    });
    if (u.grad.defined()) sums.add_to(c, u.grad);
    t.add(r, std::move(dr));
    t.add(k, std::move(dk));
    t.add(v, std::move(dv));
    t.add(o, dy);
  });
  return y;
}

}  // namespace braid
