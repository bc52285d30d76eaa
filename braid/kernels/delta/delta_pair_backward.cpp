// The backward pass of delta_pair.h (specs/state-space.md section 2.2): a run's gradients from u as
// it was written, v, the state before the run and the gradient of the state after it.

#include <algorithm>

#include "braid/base/error.h"
#include "braid/kernels/delta/delta_pair.h"
#include "braid/kernels/delta/delta_pair_kernel.h"
#include "braid/kernels/delta/delta_pair_tiles.h"
#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/delta_shared_kernel.h"

namespace braid {
namespace {

constexpr int64_t kBlock = kDeltaBlock, kPair = 2 * kDeltaBlock;

}  // namespace

DeltaPairPlan::BackTiles DeltaPairPlan::carve_backward(DeltaCarver& c) const {
  const int64_t rows = 2 * chunk_;
  BackTiles b{};
  b.start = c.floats(kp_ * vp_);
  b.d_out = c.floats(rows * vp_);
  b.d_values = c.floats(rows * vp_);
  b.scores_t = c.floats(rows * rows);
  b.d_scores = c.floats(rows * rows);
  b.d_scores_t = c.floats(rows * rows);
  b.d_diagonal = c.floats(rows);
  b.values_t = c.floats(rows * vp_);
  b.d_out_t = c.floats(rows * vp_);
  b.result_t = c.floats(rows * kp_);
  b.rows_t = c.floats(rows * kp_);
  b.raised = c.floats(rows * kp_);
  b.d_rows = c.floats(rows * kp_);
  b.d_raised = c.floats(rows * kp_);
  b.d_keys = c.floats(rows * kp_);
  b.state_dot = c.floats(kp_);
  b.dg = c.floats(chunk_ * kp_);
  return b;
}

int64_t DeltaPairPlan::backward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  carve_backward(c);
  return c.used();
}

double DeltaPairPlan::backward_flops(int64_t tokens) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_);
  double flops = 0;
  for (int64_t first = 0; first < tokens; first += chunk_) {
    const double rows = static_cast<double>(std::min(chunk_, tokens - first));
    const double n = static_cast<double>((std::min(chunk_, tokens - first) + kBlock - 1) / kBlock);
    const double squares = n * (n + 1) / 2 * kPair * kPair;
    // Keys times D, values times D^T, rows times S^T, the carried gradient; scores and their
    // gradients into rows and keys; values by scores, and the scores' gradients.
    flops += 16 * k * v * rows + 6 * k * squares;
    flops += v * (4 * squares - n * kBlock * kBlock);
  }
  return flops;
}

// Gradients of u and v, and with that of u what p reads. Blocks from the last to the first: what
// later blocks read is known by then.
void DeltaPairPlan::value_gradients(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const {
  const int64_t c = 2 * chunk_, rows = t.n * kPair;
  delta_transpose(rows, rows, t.scores, c, b.scores_t, c);
  for (int64_t j = t.n - 1; j >= 0; --j) {
    const int64_t row = j * kPair;
    float *to = b.d_values + row * vp_, *of_p = b.d_out + row * vp_;
    read_(t.keys + row * kp_, b.carry, to);
    ahead.next();
    const float* own = b.scores_t + row * c + row;
    if (j + 1 < t.n) mix_back_[t.n - j - 2](own + kPair, b.d_out + (row + kPair) * vp_, to);
    mix_back_own_(own + kBlock, of_p + kBlock * vp_, to);
    std::copy_n(to, kBlock * vp_, of_p);
    delta_solve_transposed(1, vp_, t.scores + row * c + row, c, of_p);
    delta_scale_all(kBlock * vp_, -1.0f, of_p);
    mix_own_(own + kBlock * c, of_p, to + kBlock * vp_);
  }
}

// Gradients of rows and keys: through the scores, and apart from it, for the keys, through the
// state.
void DeltaPairPlan::key_gradients(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const {
  const int64_t c = 2 * chunk_, rows = t.n * kPair, last = t.n - 1;
  delta_transpose(rows, vp_, t.values, vp_, b.values_t, c);
  for (int64_t i = 0; i < t.n; ++i) {
    const int64_t row = i * kPair;
    d_score_[i](b.d_out + row * vp_, b.values_t, b.d_scores + row * c);
  }
  pair_mask_gradients(t.n, b.d_scores, c, b.d_diagonal);
  delta_transpose(rows, rows, b.d_scores, c, b.d_scores_t, c);
  for (int64_t d = 0; d < kp_; d += kBlock) {
    unread_[last](b.carry + d * vp_, b.values_t, b.result_t + d * c);
    ahead.next();
  }
  delta_transpose(kp_, rows, b.result_t, c, b.d_keys, kp_);
  delta_transpose(rows, vp_, b.d_out, vp_, b.d_out_t, c);
  for (int64_t d = 0; d < kp_; d += kBlock) {
    unread_[last](t.state + d * vp_, b.d_out_t, b.result_t + d * c);
    ahead.next();
  }
  delta_transpose(kp_, rows, b.result_t, c, b.d_rows, kp_);
  std::copy_n(t.keys, rows * kp_, b.raised);
  delta_scale_columns(rows, kp_, t.inverse, b.raised);
  std::fill_n(b.d_raised, rows * kp_, 0.0f);
  for (int64_t i = 0; i < t.n; ++i) {
    const int64_t row = i * kPair;
    mix_keys_[i](b.d_scores + row * c, b.raised, b.d_rows + row * kp_);
    mix_keys_[last - i](b.d_scores_t + row * c + row, t.rows + row * kp_, b.d_raised + row * kp_);
    ahead.next();
  }
}

void DeltaPairPlan::emit(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                         const BackTiles& b) const {
  const DeltaHead<float>& h = head.in;
  const DeltaHeadGrads<float>& grads = head.grads;
  const DeltaPut put = head.add           ? DeltaPut::kAdd
                       : passes_caches(h) ? DeltaPut::kStream
                                          : DeltaPut::kStore;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t token = first + i, at = pair_row(i) * kp_, partner = at + kBlock * kp_;
    PairKeyRow r{};
    r.q = h.q[token];
    r.k = h.k[token];
    r.b = h.b[token];
    r.d_p = b.d_rows + at;
    r.d_q = b.d_rows + partner;
    r.d_b = b.d_raised + at;
    r.d_k = b.d_raised + partner;
    r.d_b_state = b.d_keys + at;
    r.d_k_state = b.d_keys + partner;
    r.before = i == 0 ? nullptr : t.decay + (i - 1) * kp_;
    r.decay = t.decay + i * kp_;
    r.after = t.after + i * kp_;
    r.inverse = t.inverse;
    r.diagonal_b = b.d_diagonal[i];
    r.diagonal_k = b.d_diagonal[t.n * kBlock + i];
    r.scale = h.scale;
    if (grads.q) r.to_q = grads.q[token];
    if (grads.k) r.to_k = grads.k[token];
    if (grads.b) r.to_b = grads.b[token];
    if (grads.p) r.to_p = grads.p[token];
    pair_put_keys(key_dim_, r, put);
    if (grads.v) {
      const float* dv = b.d_values + (pair_row(i) + kBlock) * vp_;
      delta_put_row(value_dim_, dv, grads.v[token], put);
    }
    if (grads.g) delta_put_row(key_dim_, b.dg + i * kp_, grads.g[token], put);
  }
}

void DeltaPairPlan::backward_run(const DeltaBackward& head, int64_t first, int64_t rows,
                                 const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const {
  take_values(head.in, first, rows, head.written, t);
  float ones[kBlock];
  std::fill_n(ones, kBlock, 1.0f);
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t begin = j * kBlock, some = std::min(kBlock, rows - begin);
    delta_take_rows(head.d_o, {}, first + begin, some, kBlock, value_dim_, vp_, ones,
                    b.d_out + (j * kPair + kBlock) * vp_);
  }
  value_gradients(t, b, ahead);
  key_gradients(t, b, ahead);
  if (head.grads.g) {
    delta_row_dots(kp_, vp_, t.state, b.carry, b.state_dot);
    for (int64_t d = 0; d < kp_; ++d) b.state_dot[d] *= t.whole[d];
    pair_decay_gradient(t.n, kp_, t.rows, b.d_rows, b.raised, b.d_raised, t.keys, b.d_keys,
                        b.state_dot, b.dg);
  }
  emit(head, first, rows, t, b);
  delta_transpose(t.n * kPair, kp_, t.rows, kp_, b.rows_t, 2 * chunk_);
  write_state(t, b.rows_t, b.d_out, b.carry, ahead);
}

// The runs of a chunk from the last to the first, each from the state before it.
void DeltaPairPlan::backward_chunk(const DeltaBackward& head, int64_t chunk, Tiles& t,
                                   const BackTiles& b, DeltaAhead& ahead) const {
  const DeltaHead<float>& h = head.in;
  const int64_t begin = chunk * chunk_, end = std::min(begin + chunk_, h.tokens);
  int64_t starts[kMaxBlocks * kBlock + 1] = {begin}, runs = 0;
  while (starts[runs] < end) {
    starts[runs + 1] = starts[runs] + prepare(h, starts[runs], end - starts[runs], t, ahead);
    ++runs;
  }
  t.state = b.start;
  for (int64_t run = runs - 1; run >= 0; --run) {
    pack_state(head.states[chunk], t.state);
    for (int64_t r = 0; r <= run && runs > 1; ++r) {
      const int64_t rows = prepare(h, starts[r], end - starts[r], t, ahead);
      if (r == run) break;
      take_values(h, starts[r], rows, head.written, t);
      write_state(t, t.keys_t, t.values, t.state, ahead);
    }
    backward_run(head, starts[run], starts[run + 1] - starts[run], t, b, ahead);
  }
}

void DeltaPairPlan::backward(std::span<const DeltaBackward> heads, float* scratch) const {
  const int64_t count = std::ssize(heads), tokens = heads[0].in.tokens, size = kp_ * vp_;
  BRAID_CHECK(count <= kMostHeads);
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  BackTiles b = carve_backward(carver);
  for (int64_t i = 0; i < count; ++i)
    pack_state(heads[static_cast<size_t>(i)].carry, t.states + i * size);
  for (int64_t chunk = chunks(tokens) - 1; chunk >= 0; --chunk) {
    for (int64_t i = 0; i < count; ++i) {
      b.carry = t.states + i * size;
      // What comes next: the next head's rows, or the first one's of the chunk before.
      DeltaAhead ahead;
      const bool last = i + 1 == count;
      const DeltaBackward& next = heads[last ? 0 : static_cast<size_t>(i + 1)];
      const int64_t of = last ? chunk - 1 : chunk;
      const int64_t from = std::max<int64_t>(of, 0) * chunk_;
      const int64_t to = of < 0 ? from : std::min(from + chunk_, tokens);
      const DeltaHead<float>& h = next.in;
      for (const DeltaRows<const float>& rows : {h.g, h.p, h.q, h.k, h.b})
        ahead.add(rows, from, to, key_dim_);
      for (const DeltaRows<const float>& rows : {next.written, h.v, next.d_o})
        ahead.add(rows, from, to, value_dim_);
      if (of >= 0) ahead.add({next.states[of], value_dim_}, 0, key_dim_, value_dim_);
      backward_chunk(heads[static_cast<size_t>(i)], chunk, t, b, ahead);
    }
  }
  delta_rows_done();
  for (int64_t i = 0; i < count; ++i)
    unpack_state(t.states + i * size, heads[static_cast<size_t>(i)].carry, false);
}

}  // namespace braid
