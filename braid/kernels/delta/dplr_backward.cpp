// The backward pass of dplr.h (specs/linear-recurrences.md section 5, specs/state-space.md section
// 2.2): a run's gradients from u as it was written, the state before the run and the gradient of
// the state after it.

#include <algorithm>

#include "braid/base/error.h"
#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/dplr_tiles.h"

namespace braid {

constexpr int64_t kBlock = kDeltaBlock;

DplrPlan::BackTiles DplrPlan::carve_backward(DeltaCarver& c) const {
  const int64_t rows = readers() * chunk_, keys = writers() * chunk_;
  BackTiles b{};
  b.start = c.floats(size());
  b.d_out = c.floats(rows * vp_);
  b.d_values = c.floats(keys * vp_);
  b.scores_t = c.floats(rows * keys);
  b.d_scores = c.floats(rows * keys);
  b.d_scores_t = c.floats(rows * keys);
  b.d_diagonal = c.floats(keys);
  b.values_t = c.floats(keys * vp_);
  b.d_out_t = c.floats(rows * vp_);
  b.result_t = c.floats(std::max(rows, keys) * kp_);
  b.rows_t = c.floats(rows * kp_);
  b.raised = c.floats(keys * kp_);
  b.d_rows = c.floats(rows * kp_);
  b.d_plain = c.floats(readers() * kBlock * kp_);
  b.d_scored = c.floats(keys * kp_);
  b.d_keys = c.floats(keys * kp_);
  b.state_dot = c.floats(kp_);
  b.dg = c.floats(chunk_ * kp_);
  b.d_beta = c.floats(chunk_);
  return b;
}

int64_t DplrPlan::backward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  carve_backward(c);
  return c.used();
}

double DplrPlan::backward_flops(int64_t steps) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_);
  const double r = static_cast<double>(readers()), w = static_cast<double>(writers());
  const Work all = work(steps);
  // Keys times D, values times D^T, rows times S^T, the carried gradient; scores and their
  // gradients into rows and keys; values by scores, and the scores' gradients.
  const double flops = 4 * k * v * all.rows * (r + w) + (6 * k + 4 * v) * r * w * all.lower;
  return erases() ? flops - v * all.diagonal : flops;
}

// Gradients of u and v, and with that of u what p reads. Blocks from the last to the first: what
// later blocks read is known by then.
void DplrPlan::value_gradients(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const {
  const int64_t rb = readers() * kBlock, wb = writers() * kBlock;
  const int64_t rc = readers() * chunk_, wc = writers() * chunk_, of_q = rb - kBlock;
  delta_transpose(t.n * rb, t.n * wb, t.scores, wc, b.scores_t, rc);
  for (int64_t j = t.n - 1; j >= 0; --j) {
    float *to = b.d_values + j * wb * vp_, *of_p = b.d_out + j * rb * vp_;
    read_keys_(t.keys + j * wb * kp_, b.carry, to);
    ahead.next();
    const float* own = b.scores_t + j * wb * rc + j * rb;
    if (j + 1 < t.n) mix_back_[t.n - j - 2](own + rb, of_p + rb * vp_, to);
    mix_back_own_(own + of_q, of_p + of_q * vp_, to);
    if (!erases()) continue;
    std::copy_n(to, kBlock * vp_, of_p);
    delta_solve_transposed(1, vp_, t.scores + j * rb * wc + j * wb, wc, of_p);
    delta_scale_all(kBlock * vp_, -1.0f, of_p);
    if (pair()) mix_own_(own + kBlock * rc, of_p, to + kBlock * vp_);
  }
}

// Of the scores.
void DplrPlan::score_gradients(const Tiles& t, const BackTiles& b) const {
  const int64_t rb = readers() * kBlock, wb = writers() * kBlock;
  const int64_t rc = readers() * chunk_, wc = writers() * chunk_;
  delta_transpose(t.n * wb, vp_, t.values, vp_, b.values_t, wc);
  for (int64_t i = 0; i < t.n; ++i)
    d_score_[i](b.d_out + i * rb * vp_, b.values_t, b.d_scores + i * rb * wc);
  dplr_mask_gradients(t.n, {readers(), writers()}, b.d_scores, wc, b.d_diagonal);
  delta_transpose(t.n * rb, t.n * wb, b.d_scores, wc, b.d_scores_t, rc);
}

// Of keys through the state after the run, and of rows through the state before it.
void DplrPlan::state_gradients(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const {
  const int64_t rb = readers() * kBlock, wb = writers() * kBlock;
  const int64_t rc = readers() * chunk_, wc = writers() * chunk_, last = t.n - 1;
  for (int64_t d = 0; d < kp_; d += kBlock) {
    unread_keys_[last](b.carry + d * vp_, b.values_t, b.result_t + d * wc);
    ahead.next();
  }
  delta_transpose(kp_, t.n * wb, b.result_t, wc, b.d_keys, kp_);
  delta_transpose(t.n * rb, vp_, b.d_out, vp_, b.d_out_t, rc);
  for (int64_t d = 0; d < kp_; d += kBlock) {
    unread_rows_[last](b.before + d * vp_, b.d_out_t, b.result_t + d * rc);
    ahead.next();
  }
  delta_transpose(kp_, t.n * rb, b.result_t, rc, b.d_rows, kp_);
}

// Of rows and of the keys that scores are made of, through the scores.
void DplrPlan::key_gradients(const Tiles& t, BackTiles& b, DeltaAhead& ahead) const {
  const int64_t rb = readers() * kBlock, wb = writers() * kBlock;
  const int64_t rc = readers() * chunk_, wc = writers() * chunk_;
  std::fill_n(b.d_scored, t.n * wb * kp_, 0.0f);
  if (!t.mild) {
    b.scored = t.plain_keys;
    std::fill_n(b.d_plain, rb * kp_, 0.0f);
    const int64_t of_q = rb - kBlock;
    for (int64_t w = 0; w < wb; w += kBlock) {
      delta_diagonal_backward(kp_, reads_before(), t.alpha, t.plain_rows + of_q * kp_,
                              erases() ? t.plain_rows : nullptr, t.plain_keys + w * kp_,
                              b.d_scores + w, b.d_scores + of_q * wc + w, wc,
                              b.d_plain + of_q * kp_, b.d_plain, b.d_scored + w * kp_);
    }
    return;
  }
  b.scored = b.raised;
  std::copy_n(t.keys, t.n * wb * kp_, b.raised);
  delta_scale_columns(t.n * wb, kp_, t.inverse, b.raised);
  for (int64_t i = 0; i < t.n; ++i) {
    mix_keys_[i](b.d_scores + i * rb * wc, b.raised, b.d_rows + i * rb * kp_);
    mix_rows_[t.n - i - 1](b.d_scores_t + i * wb * rc + i * rb, t.rows + i * rb * kp_,
                           b.d_scored + i * wb * kp_);
    ahead.next();
  }
}

void DplrPlan::decay_gradients(const Tiles& t, const BackTiles& b) const {
  delta_row_dots(kp_, vp_, b.before, b.carry, b.state_dot);
  for (int64_t d = 0; d < kp_; ++d) b.state_dot[d] *= t.whole[d];
  DplrGradients g{};
  g.rows = t.rows;
  g.d_rows = b.d_rows;
  g.plain_rows = t.plain_rows;
  g.d_plain = t.mild ? nullptr : b.d_plain;
  g.scored = b.scored;
  g.d_scored = b.d_scored;
  g.keys = t.keys;
  g.d_keys = b.d_keys;
  g.state_dot = b.state_dot;
  dplr_decay_gradient(t.n, {readers(), writers()}, reads_before(), kp_, g, b.dg);
}

// Hands out the gradients of v and w; that of beta through them is left in d_beta.
void DplrPlan::put_values(const DeltaBackward& head, int64_t first, int64_t rows, DeltaPut put,
                          const BackTiles& b) const {
  const DeltaHead<float>& h = head.in;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t step = first + i, block = i / kBlock * kBlock, row = i % kBlock;
    const float* dx = erases() ? b.d_out + (block * readers() + row) * vp_
                               : b.d_values + (block * writers() + row) * vp_;
    if (pair()) dx = b.d_values + (block * 2 + kBlock + row) * vp_;
    DeltaValueRow value{};
    value.dx = dx;
    value.v = h.v[step];
    value.factor = h.beta && !h.w ? h.beta[step][0] : 1.0f;
    if (h.w) value.w = h.w[step];
    if (head.grads.v) value.to_v = head.grads.v[step];
    if (h.w && head.grads.w) value.to_w = head.grads.w[step];
    const float dot = delta_put_values(value_dim_, value, put);
    b.d_beta[i] = h.w ? 0.0f : dot;
  }
}

// And those of q, k, b, p, beta and g.
void DplrPlan::put_keys(const DeltaBackward& head, int64_t first, int64_t rows, DeltaPut put,
                        const Tiles& t, const BackTiles& b) const {
  const DeltaHead<float>& h = head.in;
  const DeltaHeadGrads<float>& grads = head.grads;
  const int64_t n = h.micro_steps, partner = kBlock * kp_;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t step = first + i, token = n == 1 ? step : step / n;
    const bool opens = token * n == step, closes = token * n + n - 1 == step;
    const int64_t block = i / kBlock * kBlock, at = i * kp_;
    const int64_t p = (block * readers() + i % kBlock) * kp_, q = p + (readers() - 1) * partner;
    DplrKeyRow r{};
    if (closes) r.q = h.q[token];
    r.k = h.k[step];
    if (h.b) r.b = h.b[step];
    if (h.p) r.p = h.p[step];
    r.d_p = b.d_rows + p;
    r.d_q = b.d_rows + q;
    if (!t.mild) r.d_plain_p = b.d_plain + p;
    if (!t.mild) r.d_plain_q = b.d_plain + q;
    for (int64_t w = 0; w < writers(); ++w) {
      const int64_t key = (block * writers() + w * kBlock + i % kBlock) * kp_;
      r.d_scored[w] = b.d_scored + key;
      r.d_keys[w] = b.d_keys + key;
      r.diagonal[w] = b.d_diagonal[w * t.n * kBlock + i];
    }
    r.of_p = !reads_before() ? t.decay + at : i == 0 ? nullptr : t.decay + at - kp_;
    r.of_q = t.decay + at;
    r.after = t.after + at;
    if (t.mild) r.inverse = t.inverse;
    r.scale = h.scale;
    if (h.beta) r.beta = h.beta[step][0];
    if (grads.q && closes) r.to_q = grads.q[token];
    if (grads.k) r.to_k = grads.k[step];
    if (grads.b) r.to_b = grads.b[step];
    if (grads.p) r.to_p = grads.p[step];
    const float d_beta = b.d_beta[i] + dplr_put_keys(erase_, key_dim_, r, put);
    if (grads.beta) grads.beta[step][0] = head.add ? grads.beta[step][0] + d_beta : d_beta;
    if (grads.g && opens) delta_put_row(key_dim_, b.dg + at, grads.g[token], put);
  }
}

// The gradient of the state before the run.
void DplrPlan::carry_back(const Tiles& t, const BackTiles& b, DeltaAhead& ahead) const {
  const int64_t rc = readers() * chunk_;
  delta_transpose(t.n * readers() * kBlock, kp_, t.rows, kp_, b.rows_t, rc);
  for (int64_t d = 0; d < kp_; d += kBlock) {
    delta_scale_rows(kBlock, vp_, t.whole + d, b.carry + d * vp_, vp_);
    carry_[t.n - 1](b.rows_t + d * rc, b.d_out, b.carry + d * vp_);
    ahead.next();
  }
}

void DplrPlan::backward_run(const DeltaBackward& head, int64_t first, int64_t rows, const Tiles& t,
                            BackTiles& b, DeltaAhead& ahead) const {
  std::fill_n(t.factors, rows, 1.0f);
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t begin = j * kBlock, some = std::min(kBlock, rows - begin);
    take_tokens(head.in, head.d_o, first + begin, some, kBlock, value_dim_, vp_, t.factors,
                b.d_out + ((j + 1) * readers() - 1) * kBlock * vp_);
  }
  value_gradients(t, b, ahead);
  score_gradients(t, b);
  state_gradients(t, b, ahead);
  key_gradients(t, b, ahead);
  if (head.grads.g) decay_gradients(t, b);
  const DeltaPut put = head.add                 ? DeltaPut::kAdd
                       : passes_caches(head.in) ? DeltaPut::kStream
                                                : DeltaPut::kStore;
  put_values(head, first, rows, put, b);
  put_keys(head, first, rows, put, t, b);
  carry_back(t, b, ahead);
}

// The runs of a chunk from the last to the first, each from the state before it.
void DplrPlan::backward_chunk(const DeltaBackward& head, int64_t chunk, Tiles& t, BackTiles& b,
                              DeltaAhead& ahead) const {
  const DeltaHead<float>& h = head.in;
  const int64_t begin = chunk * chunk_, end = std::min(begin + chunk_, h.tokens * h.micro_steps);
  int64_t starts[kMaxBlocks + 1] = {begin}, runs = 0;
  while (starts[runs] < end) {
    starts[runs + 1] = starts[runs] + begin_run(h, starts[runs], end - starts[runs], t);
    ++runs;
  }
  const bool padded = kp_ != key_dim_ || vp_ != value_dim_;
  for (int64_t run = runs - 1; run >= 0; --run) {
    b.before = run > 0 || padded ? b.start : head.states[chunk];
    if (b.before == b.start) pack_state(head.states[chunk], b.start);
    for (int64_t r = 0; r <= run; ++r) {
      if (runs > 1) begin_run(h, starts[r], end - starts[r], t);
      const int64_t first = starts[r], rows = starts[r + 1] - first;
      take_keys(h, first, rows, t);
      take_values(h, first, rows, head.written, t);
      if (r < run) {
        write_state(t, b.start, ahead);
        continue;
      }
      scores(h, first, rows, t, ahead);
      backward_run(head, first, rows, t, b, ahead);
    }
  }
}

void DplrPlan::backward(std::span<const DeltaBackward> heads, float* scratch) const {
  const int64_t count = std::ssize(heads), n = heads[0].in.micro_steps;
  const int64_t steps = heads[0].in.tokens * n;
  BRAID_CHECK(count <= kMostHeads);
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  BackTiles b = carve_backward(carver);
  for (int64_t i = 0; i < count; ++i)
    pack_state(heads[static_cast<size_t>(i)].carry, t.states + i * size());
  for (int64_t chunk = chunks(steps) - 1; chunk >= 0; --chunk) {
    for (int64_t i = 0; i < count; ++i) {
      b.carry = t.states + i * size();
      // What comes next: the next head's rows, or the first one's of the chunk before.
      DeltaAhead ahead;
      const bool last = i + 1 == count;
      const DeltaBackward& next = heads[last ? 0 : static_cast<size_t>(i + 1)];
      const int64_t of = last ? chunk - 1 : chunk;
      const int64_t from = std::max<int64_t>(of, 0) * chunk_;
      const int64_t to = of < 0 ? from : std::min(from + chunk_, steps);
      ahead.add_operands(next.in, from, to);
      ahead.add(next.written, from, to, value_dim_);
      ahead.add(next.d_o, from / n, to / n, value_dim_);
      if (of >= 0) ahead.add({next.states[of], value_dim_}, 0, key_dim_, value_dim_);
      backward_chunk(heads[static_cast<size_t>(i)], chunk, t, b, ahead);
    }
  }
  delta_rows_done();
  for (int64_t i = 0; i < count; ++i)
    unpack_state(t.states + i * size(), 1.0f, heads[static_cast<size_t>(i)].carry, false);
}

}  // namespace braid
