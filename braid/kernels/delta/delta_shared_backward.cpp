// The backward pass of delta_shared.h (specs/state-space.md section 2.1,
// specs/linear-recurrences.md section 5). Gradients of q, k and p are summed over the heads of a
// call as they come: through the scores before their product with k and q, through the states
// transposed, [K, C].

#include <algorithm>

#include "braid/base/error.h"
#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/delta_shared.h"
#include "braid/kernels/delta/delta_shared_kernel.h"
#include "braid/kernels/delta/delta_shared_tiles.h"

namespace braid {

DeltaSharedPlan::BackTiles DeltaSharedPlan::carve_backward(DeltaCarver& c) const {
  const int64_t rows = chunk_;
  BackTiles b{};
  b.qt = c.floats(rows * kp_);
  b.scores_t = c.floats(rows * rows);
  b.d_scores = c.floats(rows * rows);
  b.dqt = c.floats(rows * kp_);
  b.dkt = c.floats(rows * kp_);
  b.d_erase_t = reads_before() ? c.floats(rows * kp_) : b.dkt;
  b.own_erase_t = reads_before() ? c.floats(rows * kp_) : nullptr;
  if (erases()) b.d_erase_scores = c.floats(rows * rows);
  b.rows_t = c.floats(rows * kp_);
  b.packed = c.floats(kp_ * vp_);
  b.d_o = c.floats(rows * vp_);
  b.d_o_start = c.floats(rows * vp_);
  b.u_end = c.floats(rows * vp_);
  b.values_t = c.floats(rows * vp_);
  b.d_read_t = c.floats(rows * kp_);
  b.dx = c.floats(rows * vp_);
  b.w = c.floats(rows * rows);
  b.of_read = c.floats(rows);
  b.of_rows = c.floats(rows);
  b.of_columns = c.floats(rows);
  b.of_state = c.floats(rows);
  b.of_erase = c.floats(rows);
  b.of_erased = c.floats(rows);
  b.d_beta = c.floats(rows);
  return b;
}

int64_t DeltaSharedPlan::backward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  carve_backward(c);
  return c.used();
}

double DeltaSharedPlan::backward_flops(int64_t steps, int64_t heads) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_);
  const Work all = work(steps);
  double shared = 6 * k * all.lower, each = 8 * k * v * all.rows + 4 * v * all.lower;
  if (erases()) {
    // Scores of x, their gradients into x and k; what x reads and what it carries back, the system,
    // and its scores' gradients.
    shared += 6 * k * all.lower;
    each += 4 * k * v * all.rows + v * (4 * all.lower - all.diagonal);
  }
  return shared + static_cast<double>(heads) * each;
}

// u, and the outputs' gradients as the scores and as the state meet them.
void DeltaSharedPlan::take_values(const DeltaBackward& head, int64_t first, int64_t rows,
                                  const Decays& d, const Tiles& t, const BackTiles& b) const {
  const DeltaHead<float>& h = head.in;
  const int64_t padded = t.n * kDeltaBlock;
  if (erases()) {
    delta_take_rows(head.written, {}, first, rows, padded, value_dim_, vp_, t.into, t.u);
  } else {
    pack_values(h, first, rows, t.into, t, t.u);
  }
  take_tokens(h, head.d_o, first, rows, padded, value_dim_, vp_, d.strong ? t.into : t.from_start,
              b.d_o);
  if (!d.strong) return;
  std::copy_n(b.d_o, padded * vp_, b.d_o_start);
  delta_scale_rows(padded, vp_, t.from_start, b.d_o_start, vp_);
  std::copy_n(t.u, padded * vp_, b.u_end);
  delta_scale_rows(padded, vp_, t.to_end, b.u_end, vp_);
}

// dx holds what reaches u through the state; adds what does through the scores. Then it is the
// gradient of the gated values, negated under the delta rule.
void DeltaSharedPlan::value_gradients(const DeltaBackward& head, int64_t first, int64_t rows,
                                      const Tiles& t, const BackTiles& b, const Decays& d) const {
  const float* scores_t = b.scores_t;
  if (d.strong) {
    delta_transpose(t.n * kDeltaBlock, t.n * kDeltaBlock, t.decayed, chunk_, b.w, chunk_);
    scores_t = b.w;
  }
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock;
    mix_values_[t.n - j - 1](scores_t + row * chunk_ + row, b.d_o + row * vp_, b.dx + row * vp_);
  }
  if (!erases()) return;
  gates(head.in, first, rows, d, t);
  delta_solve_transposed(t.n, vp_, t.erase, chunk_, b.dx);
}

// Hands out the gradients of v and w.
void DeltaSharedPlan::put_values(const DeltaBackward& head, int64_t first, int64_t rows,
                                 const Tiles& t, const BackTiles& b) const {
  const DeltaHead<float>& h = head.in;
  const DeltaHeadGrads<float>& grads = head.grads;
  const DeltaPut put = passes_caches(h) ? DeltaPut::kStream : DeltaPut::kStore;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t step = first + i;
    const float factor = erases() ? -t.into[i] : t.into[i];
    DeltaValueRow value{};
    value.dx = b.dx + i * vp_;
    value.v = h.v[step];
    value.factor = h.beta && !h.w ? factor * h.beta[step][0] : factor;
    if (h.w) value.w = h.w[step];
    if (grads.v) value.to_v = grads.v[step];
    if (h.w && grads.w) value.to_w = grads.w[step];
    const float dot = delta_put_values(value_dim_, value, put);
    b.d_beta[i] = h.w ? 0.0f : factor * dot;
  }
}

// to = state values^T, or added to it: [K, C].
void DeltaSharedPlan::unread_rows(const SmallGemm* product, const float* state,
                                  const float* values_t, float* to, const Tiles& t,
                                  DeltaAhead& ahead) const {
  for (int64_t d = 0; d < kp_; d += kDeltaBlock) {
    product[t.n - 1](state + d * vp_, values_t, to + d * chunk_);
    ahead.next();
  }
}

// Of the scores, and of decays and gates through them. Leaves u^T in values_t.
void DeltaSharedPlan::score_gradients(const Tiles& t, const BackTiles& b, const Decays& d) const {
  const int64_t padded = t.n * kDeltaBlock;
  const auto products = [&](const float* values) {
    for (int64_t i = 0; i < t.n; ++i) {
      const int64_t row = i * kDeltaBlock;
      d_score_[i](values + row * vp_, b.values_t, b.w + row * chunk_);
    }
  };
  delta_transpose(padded, vp_, t.u, vp_, b.values_t, chunk_);
  products(b.d_o);
  if (d.strong) {
    delta_multiply_lower(t.n, b.w, t.l, chunk_, b.w);
  } else {
    delta_zero_above(t.n, b.w, chunk_);
  }
  std::fill_n(b.of_columns, padded, 0.0f);
  delta_score_sums(t.n, t.scores, b.w, nullptr, chunk_, b.d_scores, b.of_rows, b.of_columns);
  if (!erases()) return;
  products(b.dx);
  delta_gate_scores(t.n, nullptr, b.w, d.strong ? t.l : nullptr, reads_before(), chunk_, b.w);
  delta_score_sums(t.n, t.erase_scores, b.w, t.gate, chunk_, b.d_erase_scores, b.of_erase,
                   b.of_columns);
}

// Of keys through the state after the chunk, of the rows that read through the state before it.
// values_t holds u^T.
void DeltaSharedPlan::state_gradients(const Tiles& t, const BackTiles& b, const Decays& d,
                                      const float* carry, DeltaAhead& ahead) const {
  const int64_t padded = t.n * kDeltaBlock;
  if (d.strong) delta_transpose(padded, vp_, b.u_end, vp_, b.values_t, chunk_);
  unread_rows(unread_add_, carry, b.values_t, b.dkt, t, ahead);
  delta_transpose(padded, vp_, d.strong ? b.d_o_start : b.d_o, vp_, b.values_t, chunk_);
  unread_rows(unread_, b.state, b.values_t, b.d_read_t, t, ahead);
  delta_column_dots(kp_, padded, b.qt, b.d_read_t, nullptr, chunk_, b.dqt, b.of_read);
  if (!erases()) return;
  if (d.strong) delta_scale_rows(padded, vp_, t.from_erase, b.dx, vp_);
  delta_transpose(padded, vp_, b.dx, vp_, b.values_t, chunk_);
  unread_rows(unread_, b.state, b.values_t, b.d_read_t, t, ahead);
  delta_column_dots(kp_, padded, b.erase_t, b.d_read_t, t.gate, chunk_, b.d_erase_t, b.of_erased);
}

// Hands out the gradients of decays and beta. dg from sums that leave out what cancels: the i = j
// terms, and the last key's way to the final state. state_dot: the decayed initial state times the
// carried gradient.
void DeltaSharedPlan::put_gates(const DeltaBackward& head, int64_t first, int64_t rows,
                                const Tiles& t, const BackTiles& b, double state_dot) const {
  const int64_t n = head.in.micro_steps;
  double kept = state_dot, after = 0;
  for (int64_t i = 0; i < rows; ++i) kept += b.of_state[i];
  for (int64_t i = rows - 1; i >= 0; --i) {
    const int64_t step = first + i, token = n == 1 ? step : step / n;
    const float d_gate = erases() ? b.of_erase[i] + b.of_erased[i] : 0.0f;
    const double erased = erases() ? double{t.gate[i]} * d_gate : 0;
    kept -= b.of_state[i];
    after += double{b.of_read[i]} + b.of_rows[i] - b.of_columns[i];
    if (!reads_before()) after += erased;
    if (head.grads.g && token * n == step) {
      float* to = head.grads.g[token];
      const float dg = static_cast<float>(kept + after);
      to[0] = head.add || head.grads.g.stride == 0 ? to[0] + dg : dg;
    }
    if (reads_before()) after += erased;
    if (!head.grads.beta) continue;
    float* to = head.grads.beta[step];
    const float d_beta = erases() ? b.d_beta[i] + t.undone[i] * d_gate : b.d_beta[i];
    to[0] = head.add ? to[0] + d_beta : d_beta;
  }
}

void DeltaSharedPlan::backward_head(const DeltaBackward& head, int64_t first, int64_t rows,
                                    const Tiles& t, const BackTiles& b, float* carry,
                                    DeltaAhead& ahead) const {
  const DeltaHead<float>& h = head.in;
  const int64_t padded = t.n * kDeltaBlock, n = h.micro_steps;
  const int64_t before = std::max<int64_t>(first - chunk_, 0);
  ahead.add(h.v, before, first, value_dim_);
  ahead.add(head.d_o, before / n, first / n, value_dim_);
  if (erases()) ahead.add(head.written, before, first, value_dim_);
  if (first > 0) ahead.add({head.states[first / chunk_ - 1], value_dim_}, 0, key_dim_, value_dim_);
  const Decays d = decays(h, first, rows, 0, t);
  take_values(head, first, rows, d, t, b);
  if (d.any && !d.strong) delta_scale_all(kp_ * vp_, d.whole, carry);
  read_rows(t.k, carry, b.dx, t, ahead);
  if (d.strong) delta_scale_rows(padded, vp_, t.to_end, b.dx, vp_);
  delta_row_dots(padded, vp_, t.u, b.dx, b.of_state);
  value_gradients(head, first, rows, t, b, d);
  put_values(head, first, rows, t, b);
  ahead.next();
  score_gradients(t, b, d);
  ahead.next();
  state_gradients(t, b, d, carry, ahead);
  double state_dot = 0;
  if (d.any && head.grads.g)
    state_dot = delta_dot(kp_ * vp_, b.state, carry) * (d.strong ? d.whole : 1.0f);
  put_gates(head, first, rows, t, b, state_dot);
  if (d.strong) delta_scale_all(kp_ * vp_, d.whole, carry);
  write_rows(b.qt, d.strong ? b.d_o_start : b.d_o, carry, t, ahead);
  if (!erases()) return;
  delta_scale_rows(padded, vp_, t.gate, b.dx, vp_);
  write_rows(b.erase_t, b.dx, carry, t, ahead);
}

// What the heads share, and their sums at zero.
void DeltaSharedPlan::begin_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                                 BackTiles& b) const {
  share(h, first, rows, t);
  const int64_t padded = t.n * kDeltaBlock;
  delta_transpose(padded, kp_, t.q, kp_, b.qt, chunk_);
  delta_transpose(padded, padded, t.scores, chunk_, b.scores_t, chunk_);
  std::fill_n(b.d_scores, padded * chunk_, 0.0f);
  std::fill_n(b.dqt, kp_ * chunk_, 0.0f);
  std::fill_n(b.dkt, kp_ * chunk_, 0.0f);
  if (!erases()) return;
  std::fill_n(b.d_erase_scores, padded * chunk_, 0.0f);
  b.erase_t = t.kt;
  if (!reads_before()) return;
  delta_transpose(padded, kp_, t.erase_keys, kp_, b.own_erase_t, chunk_);
  b.erase_t = b.own_erase_t;
  std::fill_n(b.d_erase_t, kp_ * chunk_, 0.0f);
}

// Gradients of q, k and x through the scores of all heads, added.
void DeltaSharedPlan::mix_keys(const Tiles& t, const BackTiles& b) const {
  const int64_t padded = t.n * kDeltaBlock;
  delta_transpose(padded, padded, b.d_scores, chunk_, b.w, chunk_);
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock;
    mix_keys_[j](t.kt, b.w + row, b.dqt + row);
    mix_keys_[t.n - j - 1](b.qt + row, b.d_scores + row * chunk_ + row, b.dkt + row);
  }
  if (!erases()) return;
  delta_transpose(padded, padded, b.d_erase_scores, chunk_, b.w, chunk_);
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock;
    mix_keys_[j](t.kt, b.w + row, b.d_erase_t + row);
    mix_keys_[t.n - j - 1](b.erase_t + row, b.d_erase_scores + row * chunk_ + row, b.dkt + row);
  }
}

// Gradients of q, k and p: what came through the states, and through the scores of all heads.
void DeltaSharedPlan::finish_keys(const DeltaBackward& head, int64_t first, int64_t rows,
                                  const Tiles& t, const BackTiles& b) const {
  const int64_t padded = t.n * kDeltaBlock;
  const bool stream = passes_caches(head.in);
  mix_keys(t, b);
  delta_transpose(kp_, padded, b.dqt, chunk_, b.rows_t, kp_);
  std::fill_n(t.factors, rows, head.in.scale);
  give_tokens(head.in, b.rows_t, first, rows, key_dim_, kp_, t.factors, head.grads.q);
  delta_transpose(kp_, padded, b.dkt, chunk_, b.rows_t, kp_);
  delta_give_rows(b.rows_t, kp_, rows, key_dim_, nullptr, head.grads.k, first, stream);
  if (!reads_before()) return;
  delta_transpose(kp_, padded, b.d_erase_t, chunk_, b.rows_t, kp_);
  delta_give_rows(b.rows_t, kp_, rows, key_dim_, nullptr, head.grads.p, first, stream);
}

void DeltaSharedPlan::backward(std::span<const DeltaBackward> heads, int64_t group,
                               float* scratch) const {
  const int64_t count = std::ssize(heads);
  BRAID_CHECK(count <= kMostHeads && count % group == 0);
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  BackTiles b = carve_backward(carver);
  const int64_t n = heads[0].in.micro_steps, steps = heads[0].in.tokens * n;
  for (int64_t i = 0; i < count; ++i)
    pack_state(heads[static_cast<size_t>(i)].carry, t.states + i * size());
  for (int64_t chunk = chunks(steps) - 1; chunk >= 0; --chunk) {
    const int64_t first = chunk * chunk_, rows = std::min(chunk_, steps - first);
    const int64_t before = std::max<int64_t>(first - chunk_, 0);
    DeltaAhead ahead;
    for (int64_t i = 0; i < count; ++i) {
      const DeltaBackward& head = heads[static_cast<size_t>(i)];
      if (i % group == 0) {
        begin_keys(head.in, first, rows, t, b);
        ahead.add(head.in.q, before / n, first / n, key_dim_);
        ahead.add(head.in.k, before, first, key_dim_);
        if (reads_before()) ahead.add(head.in.p, before, first, key_dim_);
      }
      b.state = head.states[chunk];
      if (kp_ != key_dim_ || vp_ != value_dim_) {
        pack_state(head.states[chunk], b.packed);
        b.state = b.packed;
      }
      backward_head(head, first, rows, t, b, t.states + i * size(), ahead);
      if (i % group == group - 1) finish_keys(head, first, rows, t, b);
    }
  }
  delta_rows_done();
  for (int64_t i = 0; i < count; ++i)
    unpack_state(t.states + i * size(), 1.0f, heads[static_cast<size_t>(i)].carry, false);
}

}  // namespace braid
