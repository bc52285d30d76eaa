#include "braid/kernels/delta/delta_shared.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "braid/base/error.h"
#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/delta_shared_kernel.h"
#include "braid/kernels/delta/delta_shared_tiles.h"

namespace braid {
namespace {

constexpr double kStrongestDecay = -1e4;  // as delta_exp

}  // namespace

DeltaSharedPlan::DeltaSharedPlan(int64_t key_dim, int64_t value_dim, DeltaErase erase,
                                 int64_t chunk)
    : DeltaPlan(key_dim, value_dim, erase, chunk) {
  BRAID_CHECK(!erases() || erase == DeltaErase::kBeta || erase == DeltaErase::kKey);
  const int64_t c = chunk_;
  read_ = SmallGemm(kDeltaBlock, vp_, kp_, kp_, vp_, vp_, false);
  for (int64_t i = 0; i < c / kDeltaBlock; ++i) {
    const int64_t w = (i + 1) * kDeltaBlock;
    score_[i] = SmallGemm(kDeltaBlock, w, kp_, kp_, c, c, false);
    mix_values_[i] = SmallGemm(kDeltaBlock, vp_, w, c, vp_, vp_, true);
    write_[i] = SmallGemm(kDeltaBlock, vp_, w, c, vp_, vp_, true);
    d_score_[i] = SmallGemm(kDeltaBlock, w, vp_, vp_, c, c, false);
    unread_[i] = SmallGemm(kDeltaBlock, w, vp_, vp_, c, c, false);
    unread_add_[i] = SmallGemm(kDeltaBlock, w, vp_, vp_, c, c, true);
    mix_keys_[i] = SmallGemm(kp_, kDeltaBlock, w, c, c, c, true);
  }
}

DeltaSharedPlan::Tiles DeltaSharedPlan::carve_forward(DeltaCarver& c) const {
  const int64_t rows = chunk_;
  Tiles t{};
  t.q = c.floats(rows * kp_);
  t.k = c.floats(rows * kp_);
  t.kt = c.floats(rows * kp_);
  t.scores = c.floats(rows * rows);
  t.erase_keys = reads_before() ? c.floats(rows * kp_) : t.k;
  t.sums = reinterpret_cast<double*>(c.floats(2 * rows));
  t.from_start = c.floats(rows);
  t.into = c.floats(rows);
  t.to_end = c.floats(rows);
  t.factors = c.floats(rows);
  t.l = c.floats(rows * rows);
  t.decayed = c.floats(rows * rows);
  t.u = c.floats(rows * vp_);
  t.y = c.floats(rows * vp_);
  if (erases()) {
    t.erase_scores = c.floats(rows * rows);
    t.erase = c.floats(rows * rows);
    t.undone = c.floats(rows);
    t.gate = c.floats(rows);
    t.from_erase = c.floats(rows);
  }
  t.states = c.floats(kMostHeads * kp_ * vp_);
  return t;
}

int64_t DeltaSharedPlan::forward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  return c.used();
}

double DeltaSharedPlan::forward_flops(int64_t steps, int64_t heads) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_);
  const Work all = work(steps);
  const double shared = 2 * k * all.lower * (erases() ? 2 : 1);
  double each = 4 * k * v * all.rows + 2 * v * all.lower;
  // What the rows of x read, and the triangular system.
  if (erases()) each += 2 * k * v * all.rows + v * (2 * all.lower - all.diagonal);
  return shared + static_cast<double>(heads) * each;
}

// to = keys k^T, blocks on and below the diagonal.
void DeltaSharedPlan::scores(const float* keys, const Tiles& t, float* to) const {
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t row = b * kDeltaBlock;
    score_[b](keys + row * kp_, t.kt, to + row * chunk_);
  }
}

// What the heads share: rows of q, k and p, and scores.
void DeltaSharedPlan::share(const DeltaHead<float>& h, int64_t first, int64_t rows,
                            Tiles& t) const {
  t.n = blocks(rows);
  const int64_t padded = t.n * kDeltaBlock;
  std::fill_n(t.factors, rows, h.scale);
  take_tokens(h, h.q, first, rows, padded, key_dim_, kp_, t.factors, t.q);
  std::fill_n(t.factors, rows, 1.0f);
  delta_take_rows(h.k, {}, first, rows, padded, key_dim_, kp_, t.factors, t.k);
  delta_transpose(padded, kp_, t.k, kp_, t.kt, chunk_);
  scores(t.q, t, t.scores);
  delta_zero_above(t.n, t.scores, chunk_);
  if (!erases()) return;
  if (reads_before())
    delta_take_rows(h.p, {}, first, rows, padded, key_dim_, kp_, t.factors, t.erase_keys);
  scores(t.erase_keys, t, t.erase_scores);
}

DeltaSharedPlan::Decays DeltaSharedPlan::decays(const DeltaHead<float>& h, int64_t first,
                                                int64_t rows, double before, const Tiles& t) const {
  Decays d;
  d.before = before;
  const int64_t padded = t.n * kDeltaBlock, steps = h.micro_steps;
  d.any = h.decay != DeltaDecay::kNone;
  if (!d.any) {
    std::fill_n(t.from_start, padded, 1.0f);
    std::fill_n(t.into, padded, 1.0f);
    return d;
  }
  double sum = before;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t step = first + i, token = steps == 1 ? step : step / steps;
    if (token * steps == step) sum += std::max<double>(h.g[token][0], kStrongestDecay);
    t.sums[i] = sum;
  }
  std::fill(t.sums + rows, t.sums + padded, sum);
  d.sum = sum;
  d.strong = !(sum >= kDeltaMildest);
  if (d.strong && before != 0) return d;
  if (!d.strong) {
    delta_row_decays(padded, t.sums, t.from_start, t.into);
    d.whole = t.from_start[padded - 1];
    return d;
  }
  delta_decay_matrix(t.n, t.sums, t.l, chunk_);
  delta_multiply_lower(t.n, t.scores, t.l, chunk_, t.decayed);
  for (int64_t i = 0; i < padded; ++i) {
    t.from_start[i] = static_cast<float>(t.sums[i]);
    t.to_end[i] = static_cast<float>(sum - t.sums[i]);
  }
  delta_exp(padded, t.from_start);
  delta_exp(padded, t.to_end);
  std::fill_n(t.into, padded, 1.0f);
  d.whole = t.from_start[padded - 1];
  return d;
}

// The rows of x under the decays d: their gates, their decay from the chunk's start, and the
// system.
void DeltaSharedPlan::gates(const DeltaHead<float>& h, int64_t first, int64_t rows, const Decays& d,
                            const Tiles& t) const {
  const int64_t padded = t.n * kDeltaBlock;
  float past = static_cast<float>(std::exp(d.before));
  for (int64_t i = 0; i < padded; ++i) {
    const bool undo = d.any && reads_before() && !d.strong;
    t.undone[i] = undo ? past * t.into[i] : 1.0f;
    t.gate[i] = i < rows ? t.undone[i] * h.beta[first + i][0] : 0.0f;
    t.from_erase[i] = reads_before() ? past : t.from_start[i];
    past = t.from_start[i];
  }
  delta_gate_scores(t.n, t.gate, t.erase_scores, d.strong ? t.l : nullptr, reads_before(), chunk_,
                    t.erase);
}

// Gated values times factors.
void DeltaSharedPlan::pack_values(const DeltaHead<float>& h, int64_t first, int64_t rows,
                                  const float* factors, const Tiles& t, float* to) const {
  const bool beta = h.beta && !h.w;
  for (int64_t i = 0; i < rows; ++i)
    t.factors[i] = beta ? factors[i] * h.beta[first + i][0] : factors[i];
  delta_take_rows(h.v, h.w, first, rows, t.n * kDeltaBlock, value_dim_, vp_, t.factors, to);
}

// y = keys state.
void DeltaSharedPlan::read_rows(const float* keys, const float* state, float* y, const Tiles& t,
                                DeltaAhead& ahead) const {
  for (int64_t i = 0; i < t.n * kDeltaBlock; i += kDeltaBlock) {
    read_(keys + i * kp_, state, y + i * vp_);
    ahead.next();
  }
}

// state += keys^T values.
void DeltaSharedPlan::write_rows(const float* keys_t, const float* values, float* state,
                                 const Tiles& t, DeltaAhead& ahead) const {
  for (int64_t d = 0; d < kp_; d += kDeltaBlock) {
    write_[t.n - 1](keys_t + d * chunk_, values, state + d * vp_);
    ahead.next();
  }
}

// u from gated values: what is written, by the triangular system. Uses y.
void DeltaSharedPlan::erase(const DeltaForward& head, int64_t first, int64_t rows, const Decays& d,
                            const float* state, const Tiles& t, DeltaAhead& ahead) const {
  const int64_t padded = t.n * kDeltaBlock;
  gates(head.in, first, rows, d, t);
  read_rows(t.erase_keys, state, t.y, t, ahead);
  if (d.strong) delta_scale_rows(padded, vp_, t.from_erase, t.y, vp_);
  delta_subtract_scaled(padded, vp_, t.gate, t.y, t.u);
  delta_solve(t.n, vp_, t.erase, chunk_, t.u);
  if (!head.written) return;
  delta_give_rows(t.u, vp_, rows, value_dim_, d.strong ? nullptr : t.from_start, head.written,
                  first, passes_caches(head.in));
}

void DeltaSharedPlan::forward_head(const DeltaForward& head, int64_t first, int64_t rows,
                                   const Tiles& t, Carried& carried, DeltaAhead& ahead) const {
  const DeltaHead<float>& h = head.in;
  const int64_t padded = t.n * kDeltaBlock, n = h.micro_steps;
  const int64_t next = first + rows, steps = h.tokens * n;
  ahead.add(h.v, next, std::min(next + chunk_, steps), value_dim_);
  if (!passes_caches(h)) ahead.add({head.o.data, head.o.stride}, first / n, next / n, value_dim_);
  float* state = carried.state;
  Decays d = decays(h, first, rows, carried.sum, t);
  if (d.strong && carried.sum != 0) {
    settle(carried);
    d = decays(h, first, rows, 0, t);
  }
  pack_values(h, first, rows, t.into, t, t.u);
  if (erases()) erase(head, first, rows, d, state, t, ahead);
  read_rows(t.q, state, t.y, t, ahead);
  if (d.strong) delta_scale_rows(padded, vp_, t.from_start, t.y, vp_);
  const float* of_q = d.strong ? t.decayed : t.scores;
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t row = b * kDeltaBlock;
    mix_values_[b](of_q + row * chunk_, t.u, t.y + row * vp_);
    ahead.next();
  }
  give_tokens(h, t.y, first, rows, value_dim_, vp_, d.strong ? nullptr : t.from_start, head.o);
  if (d.strong) {
    delta_scale_rows(padded, vp_, t.to_end, t.u, vp_);
    delta_scale_all(kp_ * vp_, d.whole, state);
  }
  write_rows(t.kt, t.u, state, t, ahead);
  carried.sum = d.strong ? 0 : d.sum;
}

// The decay that a state still owes.
void DeltaSharedPlan::settle(Carried& carried) const {
  if (carried.sum == 0) return;
  delta_scale_all(kp_ * vp_, static_cast<float>(std::exp(carried.sum)), carried.state);
  carried.sum = 0;
}

void DeltaSharedPlan::forward(std::span<const DeltaForward> heads, int64_t group,
                              float* scratch) const {
  const int64_t count = std::ssize(heads);
  BRAID_CHECK(count <= kMostHeads && count % group == 0);
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  const int64_t n = heads[0].in.micro_steps, steps = heads[0].in.tokens * n;
  const bool padded = kp_ != key_dim_ || vp_ != value_dim_;
  Carried carried[kMostHeads];
  for (int64_t i = 0; i < count; ++i) {
    float* state = heads[static_cast<size_t>(i)].state;
    carried[i].state = padded ? t.states + i * size() : state;
    if (padded) pack_state(state, carried[i].state);
  }
  for (int64_t first = 0; first < steps; first += chunk_) {
    const int64_t rows = std::min(chunk_, steps - first), next = first + rows;
    const int64_t end = std::min(next + chunk_, steps);
    DeltaAhead ahead;
    for (int64_t i = 0; i < count; ++i) {
      const DeltaForward& head = heads[static_cast<size_t>(i)];
      if (i % group == 0) {
        share(head.in, first, rows, t);
        ahead.add(head.in.q, next / n, end / n, key_dim_);
        ahead.add(head.in.k, next, end, key_dim_);
        if (reads_before()) ahead.add(head.in.p, next, end, key_dim_);
      }
      if (head.states) {
        const float owed = static_cast<float>(std::exp(carried[i].sum));
        unpack_state(carried[i].state, owed, head.states[first / chunk_], passes_caches(head.in));
      }
      forward_head(head, first, rows, t, carried[i], ahead);
    }
  }
  delta_rows_done();
  for (int64_t i = 0; i < count; ++i) {
    settle(carried[i]);
    if (padded) unpack_state(carried[i].state, 1.0f, heads[static_cast<size_t>(i)].state, false);
  }
}

}  // namespace braid
