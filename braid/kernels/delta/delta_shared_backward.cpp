// The backward pass of delta_shared.h (specs/state-space.md section 2.1). Gradients of q and k are
// summed over the heads of a call as they come: through the scores before their product with k and
// q, through the states transposed, [K, C].

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
  b.of_state = c.floats(rows);
  return b;
}

int64_t DeltaSharedPlan::backward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  carve_backward(c);
  return c.used();
}

double DeltaSharedPlan::backward_flops(int64_t tokens, int64_t heads) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_);
  double flops = 0;
  for (int64_t first = 0; first < tokens; first += chunk_) {
    const double rows = static_cast<double>(std::min(chunk_, tokens - first));
    const int64_t n = (std::min(chunk_, tokens - first) + kDeltaBlock - 1) / kDeltaBlock;
    const double lower = static_cast<double>(n * (n + 1) / 2 * kDeltaBlock * kDeltaBlock);
    flops += 6 * k * lower + static_cast<double>(heads) * (8 * k * v * rows + 4 * v * lower);
  }
  return flops;
}

// dx holds what reaches the values through the state; adds what does through the scores, then
// hands out the gradients of v, w and beta.
void DeltaSharedPlan::value_gradients(const DeltaBackward& head, int64_t first, int64_t rows,
                                      const Tiles& t, const BackTiles& b, const Decays& d) const {
  const DeltaHead<float>& h = head.in;
  const DeltaHeadGrads<float>& grads = head.grads;
  const float* scores_t = b.scores_t;
  if (d.strong) {
    delta_transpose(t.n * kDeltaBlock, t.n * kDeltaBlock, t.decayed, chunk_, b.w, chunk_);
    scores_t = b.w;
  }
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock;
    mix_values_[t.n - j - 1](scores_t + row * chunk_ + row, b.d_o + row * vp_, b.dx + row * vp_);
  }
  const DeltaPut put = passes_caches(h) ? DeltaPut::kStream : DeltaPut::kStore;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t token = first + i;
    DeltaValueRow value{};
    value.dx = b.dx + i * vp_;
    value.v = h.v[token];
    value.factor = h.beta && !h.w ? t.into[i] * h.beta[token][0] : t.into[i];
    if (h.w) value.w = h.w[token];
    if (grads.v) value.to_v = grads.v[token];
    if (h.w && grads.w) value.to_w = grads.w[token];
    const float dot = delta_put_values(value_dim_, value, put);
    if (!grads.beta) continue;
    const float d_beta = h.w ? 0.0f : t.into[i] * dot;
    float* to = grads.beta[token];
    to[0] = head.add ? to[0] + d_beta : d_beta;
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

// dg, from sums that leave out what cancels: the i = j terms, and the last key's way to the final
// state. state_dot: the decayed initial state times the carried gradient.
void DeltaSharedPlan::decay_gradients(const DeltaBackward& head, int64_t first, int64_t rows,
                                      const BackTiles& b, double state_dot) const {
  double kept = state_dot, after = 0;
  for (int64_t i = 0; i < rows; ++i) kept += b.of_state[i];
  for (int64_t i = rows - 1; i >= 0; --i) {
    kept -= b.of_state[i];
    after += double{b.of_read[i]} + b.of_rows[i];
    float* to = head.grads.g[first + i];
    const float dg = static_cast<float>(kept + after);
    to[0] = head.add || head.grads.g.stride == 0 ? to[0] + dg : dg;
  }
}

void DeltaSharedPlan::backward_head(const DeltaBackward& head, int64_t first, int64_t rows,
                                    const Tiles& t, const BackTiles& b, float* carry,
                                    DeltaAhead& ahead) const {
  const DeltaHead<float>& h = head.in;
  const int64_t padded = t.n * kDeltaBlock;
  const int64_t before = std::max<int64_t>(first - chunk_, 0);
  ahead.add(h.v, before, first, value_dim_);
  ahead.add(head.d_o, before, first, value_dim_);
  if (first > 0) {
    ahead.add({head.states[first / chunk_ - 1], value_dim_}, 0, key_dim_, value_dim_);
  }
  const Decays d = decays(h, first, rows, 0, t);
  pack_values(h, first, rows, t.into, t, t.u);
  delta_take_rows(head.d_o, {}, first, rows, padded, value_dim_, vp_,
                  d.strong ? t.into : t.from_start, b.d_o);
  const float *d_o_start = b.d_o, *u_end = t.u;
  if (d.strong) {
    std::copy_n(b.d_o, padded * vp_, b.d_o_start);
    delta_scale_rows(padded, vp_, t.from_start, b.d_o_start, vp_);
    std::copy_n(t.u, padded * vp_, b.u_end);
    delta_scale_rows(padded, vp_, t.to_end, b.u_end, vp_);
    d_o_start = b.d_o_start;
    u_end = b.u_end;
  } else if (d.any) {
    delta_scale_all(kp_ * vp_, d.whole, carry);
  }
  read_rows(t.k, carry, b.dx, t, ahead);
  if (d.strong) delta_scale_rows(padded, vp_, t.to_end, b.dx, vp_);
  delta_row_dots(padded, vp_, t.u, b.dx, b.of_state);
  value_gradients(head, first, rows, t, b, d);
  ahead.next();

  delta_transpose(padded, vp_, t.u, vp_, b.values_t, chunk_);
  for (int64_t i = 0; i < t.n; ++i) {
    const int64_t row = i * kDeltaBlock;
    d_score_[i](b.d_o + row * vp_, b.values_t, b.w + row * chunk_);
  }
  if (d.strong) {
    delta_multiply_lower(t.n, b.w, t.l, chunk_, b.w);
  } else {
    delta_zero_above(t.n, b.w, chunk_);
  }
  delta_score_sums(t.n, t.scores, b.w, chunk_, b.d_scores, b.of_rows);
  ahead.next();

  if (d.strong) delta_transpose(padded, vp_, u_end, vp_, b.values_t, chunk_);
  unread_rows(unread_add_, carry, b.values_t, b.dkt, t, ahead);
  delta_transpose(padded, vp_, d_o_start, vp_, b.values_t, chunk_);
  unread_rows(unread_, b.state, b.values_t, b.d_read_t, t, ahead);
  delta_column_dots(kp_, padded, b.qt, b.d_read_t, chunk_, b.dqt, b.of_read);
  if (d.any && head.grads.g) {
    const double dot = delta_dot(kp_ * vp_, b.state, carry);
    decay_gradients(head, first, rows, b, d.strong ? d.whole * dot : dot);
  }
  if (d.strong) delta_scale_all(kp_ * vp_, d.whole, carry);
  write_rows(b.qt, d_o_start, carry, t, ahead);
}

// What the heads share, and their sums at zero.
void DeltaSharedPlan::begin_keys(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                                 const BackTiles& b) const {
  share(h, first, rows, t);
  const int64_t padded = t.n * kDeltaBlock;
  delta_transpose(padded, kp_, t.q, kp_, b.qt, chunk_);
  delta_transpose(padded, padded, t.scores, chunk_, b.scores_t, chunk_);
  std::fill_n(b.d_scores, padded * chunk_, 0.0f);
  std::fill_n(b.dqt, kp_ * chunk_, 0.0f);
  std::fill_n(b.dkt, kp_ * chunk_, 0.0f);
}

// Gradients of q and k: what came through the states, and through the scores of all heads.
void DeltaSharedPlan::finish_keys(const DeltaBackward& head, int64_t first, int64_t rows,
                                  const Tiles& t, const BackTiles& b) const {
  const bool stream = passes_caches(head.in);
  const int64_t padded = t.n * kDeltaBlock;
  delta_transpose(padded, padded, b.d_scores, chunk_, b.w, chunk_);
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock;
    mix_keys_[j](t.kt, b.w + row, b.dqt + row);
    mix_keys_[t.n - j - 1](b.qt + row, b.d_scores + row * chunk_ + row, b.dkt + row);
  }
  delta_transpose(kp_, padded, b.dqt, chunk_, b.rows_t, kp_);
  std::fill_n(t.factors, rows, head.in.scale);
  delta_give_rows(b.rows_t, kp_, rows, key_dim_, t.factors, head.grads.q, first, stream);
  delta_transpose(kp_, padded, b.dkt, chunk_, b.rows_t, kp_);
  delta_give_rows(b.rows_t, kp_, rows, key_dim_, nullptr, head.grads.k, first, stream);
}

void DeltaSharedPlan::backward(std::span<const DeltaBackward> heads, int64_t group,
                               float* scratch) const {
  const int64_t count = std::ssize(heads);
  BRAID_CHECK(count <= kMostHeads && count % group == 0);
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  BackTiles b = carve_backward(carver);
  const int64_t tokens = heads[0].in.tokens, size = kp_ * vp_;
  for (int64_t i = 0; i < count; ++i)
    pack_state(heads[static_cast<size_t>(i)].carry, t.states + i * size);
  for (int64_t chunk = chunks(tokens) - 1; chunk >= 0; --chunk) {
    const int64_t first = chunk * chunk_, rows = std::min(chunk_, tokens - first);
    const int64_t before = std::max<int64_t>(first - chunk_, 0);
    DeltaAhead ahead;
    for (int64_t i = 0; i < count; ++i) {
      const DeltaBackward& head = heads[static_cast<size_t>(i)];
      if (i % group == 0) {
        begin_keys(head.in, first, rows, t, b);
        ahead.add(head.in.q, before, first, key_dim_);
        ahead.add(head.in.k, before, first, key_dim_);
      }
      b.state = head.states[chunk];
      if (kp_ != key_dim_ || vp_ != value_dim_) {
        pack_state(head.states[chunk], b.packed);
        b.state = b.packed;
      }
      backward_head(head, first, rows, t, b, t.states + i * size, ahead);
      if (i % group == group - 1) finish_keys(head, first, rows, t, b);
    }
  }
  delta_rows_done();
  for (int64_t i = 0; i < count; ++i)
    unpack_state(t.states + i * size, 1.0f, heads[static_cast<size_t>(i)].carry, false);
}

}  // namespace braid
