#include "braid/kernels/delta/dplr.h"

#include <algorithm>
#include <cmath>

#include "braid/base/error.h"
#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/dplr_tiles.h"

namespace braid {

constexpr int64_t kBlock = kDeltaBlock;

DplrPlan::DplrPlan(int64_t key_dim, int64_t value_dim, DeltaErase erase, int64_t chunk)
    : DeltaPlan(key_dim, value_dim, erase, chunk) {
  const int64_t rb = readers() * kBlock, wb = writers() * kBlock;
  const int64_t rc = readers() * chunk_, wc = writers() * chunk_;
  read_ = SmallGemm(kBlock, vp_, kp_, kp_, vp_, vp_, false);
  read_add_ = SmallGemm(kBlock, vp_, kp_, kp_, vp_, vp_, true);
  read_keys_ = SmallGemm(wb, vp_, kp_, kp_, vp_, vp_, false);
  mix_own_ = SmallGemm(kBlock, vp_, kBlock, wc, vp_, vp_, true);
  mix_back_own_ = SmallGemm(wb, vp_, kBlock, rc, vp_, vp_, true);
  for (int64_t i = 0; i < chunk_ / kBlock; ++i) {
    const int64_t r = (i + 1) * rb, w = (i + 1) * wb;
    score_[i] = SmallGemm(rb, w, kp_, kp_, wc, wc, false);
    mix_[i] = SmallGemm(kBlock, vp_, w, wc, vp_, vp_, true);
    write_[i] = SmallGemm(kBlock, vp_, w, wc, vp_, vp_, true);
    mix_back_[i] = SmallGemm(wb, vp_, r, rc, vp_, vp_, true);
    d_score_[i] = SmallGemm(rb, w, vp_, vp_, wc, wc, false);
    unread_keys_[i] = SmallGemm(kBlock, w, vp_, vp_, wc, wc, false);
    unread_rows_[i] = SmallGemm(kBlock, r, vp_, vp_, rc, rc, false);
    mix_keys_[i] = SmallGemm(rb, kp_, w, wc, kp_, kp_, true);
    mix_rows_[i] = SmallGemm(wb, kp_, r, rc, kp_, kp_, true);
    carry_[i] = SmallGemm(kBlock, vp_, r, rc, vp_, vp_, true);
  }
}

DplrPlan::Tiles DplrPlan::carve_forward(DeltaCarver& c) const {
  const int64_t rows = readers() * chunk_, keys = writers() * chunk_;
  Tiles t{};
  t.alpha = c.floats(chunk_ * kp_);
  t.decay = c.floats(chunk_ * kp_);
  t.after = c.floats(chunk_ * kp_);
  t.whole = c.floats(kp_);
  t.inverse = c.floats(kp_);
  t.rows = c.floats(rows * kp_);
  t.keys = c.floats(keys * kp_);
  t.keys_t = c.floats(keys * kp_);
  t.raised_t = c.floats(keys * kp_);
  t.plain_rows = c.floats(readers() * kBlock * kp_);
  t.plain_keys = c.floats(writers() * kBlock * kp_);
  t.scores = c.floats(rows * keys);
  t.values = c.floats(keys * vp_);
  t.y = c.floats(kBlock * vp_);
  t.factors = c.floats(chunk_);
  t.states = c.floats(kMostHeads * size());
  return t;
}

int64_t DplrPlan::forward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  return c.used();
}

double DplrPlan::forward_flops(int64_t steps) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_);
  const double r = static_cast<double>(readers()), w = static_cast<double>(writers());
  const Work all = work(steps);
  // Scores, the state read and written, values by scores; of the solve only the triangle.
  const double flops = 2 * (k + v) * r * w * all.lower + 2 * k * v * all.rows * (r + w);
  return erases() ? flops - v * all.diagonal : flops;
}

// Decays and rows of the run that begins at `first` and has at most `rows` micro-steps. Returns how
// many it has.
int64_t DplrPlan::begin_run(const DeltaHead<float>& h, int64_t first, int64_t rows,
                            Tiles& t) const {
  dplr_take_rows(h, first, rows, kp_, t.alpha, t.decay, t.rows);
  const float mildest = static_cast<float>(std::exp(kDeltaMildest));
  const int64_t mild = dplr_mild_blocks(blocks(rows), key_dim_, kp_, t.decay, mildest);
  t.mild = mild > 0;
  t.n = std::max<int64_t>(mild, 1);
  std::copy_n(t.decay + (t.n * kBlock - 1) * kp_, kp_, t.whole);
  return std::min(rows, t.n * kBlock);
}

// Keys of the run, of `rows` micro-steps.
void DplrPlan::take_keys(const DeltaHead<float>& h, int64_t first, int64_t rows,
                         const Tiles& t) const {
  dplr_take_keys(h, first, rows, kp_, t.alpha, t.after, t.keys);
  delta_transpose(t.n * writers() * kBlock, kp_, t.keys, kp_, t.keys_t, writers() * chunk_);
}

void DplrPlan::scores(const DeltaHead<float>& h, int64_t first, int64_t rows, const Tiles& t,
                      DeltaAhead& ahead) const {
  const int64_t rb = readers() * kBlock, wb = writers() * kBlock, wc = writers() * chunk_;
  if (t.mild) {
    for (int64_t d = 0; d < kp_; ++d) t.inverse[d] = 1.0f / t.whole[d];
    dplr_raise(kp_, t.n * wb, t.inverse, t.keys_t, wc, t.raised_t);
    for (int64_t b = 0; b < t.n; ++b) {
      score_[b](t.rows + b * rb * kp_, t.raised_t, t.scores + b * rb * wc);
      ahead.next();
    }
  } else {
    dplr_take_rows(h, first, rows, kp_, nullptr, nullptr, t.plain_rows);
    dplr_take_keys(h, first, rows, kp_, nullptr, nullptr, t.plain_keys);
    const int64_t of_q = (readers() - 1) * kBlock;
    for (int64_t w = 0; w < wb; w += kBlock) {
      delta_diagonal(kp_, reads_before(), t.alpha, t.plain_rows + of_q * kp_,
                     erases() ? t.plain_rows : nullptr, t.plain_keys + w * kp_, t.scores + w,
                     t.scores + of_q * wc + w, wc);
    }
  }
  dplr_mask_scores(t.n, {readers(), writers()}, t.scores, wc);
}

// Values by blocks: u where it is known, else what it is beside what p reads; and of a pair v.
void DplrPlan::take_values(const DeltaHead<float>& h, int64_t first, int64_t rows,
                           DeltaRows<const float> written, const Tiles& t) const {
  std::fill_n(t.factors, rows, 1.0f);
  if (h.beta && !h.w && !written)
    for (int64_t i = 0; i < rows; ++i) t.factors[i] = h.beta[first + i][0];
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t begin = b * kBlock, some = std::min(kBlock, rows - begin);
    float* to = t.values + begin * writers() * vp_;
    const auto take = [&](DeltaRows<const float> from, DeltaRows<const float> gate, float* tile) {
      delta_take_rows(from, gate, first + begin, some, kBlock, value_dim_, vp_, t.factors + begin,
                      tile);
    };
    if (pair()) take(h.v, {}, to + kBlock * vp_);
    if (written) {
      take(written, {}, to);
    } else if (pair()) {
      std::fill_n(to, kBlock * vp_, 0.0f);
    } else {
      take(h.v, h.w, to);
    }
  }
}

// The state after the run: state = Diag(whole) state + keys^T values.
void DplrPlan::write_state(const Tiles& t, float* state, DeltaAhead& ahead) const {
  for (int64_t d = 0; d < kp_; d += kBlock) {
    delta_scale_rows(kBlock, vp_, t.whole + d, state + d * vp_, vp_);
    write_[t.n - 1](t.keys_t + d * writers() * chunk_, t.values, state + d * vp_);
    ahead.next();
  }
}

// u of block b, where the blocks before it are known.
void DplrPlan::erase_block(int64_t b, const Tiles& t) const {
  const int64_t rb = readers() * kBlock, wb = writers() * kBlock, wc = writers() * chunk_;
  const float* of_p = t.scores + b * rb * wc;
  float* u = t.values + b * wb * vp_;
  read_add_(t.rows + b * rb * kp_, t.state, u);
  if (b > 0) mix_[b - 1](of_p, t.values, u);
  if (pair()) mix_own_(of_p + b * wb + kBlock, u + kBlock * vp_, u);
  delta_solve(1, vp_, of_p + b * wb, wc, u);
}

void DplrPlan::forward_run(const DeltaForward& head, int64_t first, int64_t rows, const Tiles& t,
                           DeltaAhead& ahead) const {
  const DeltaHead<float>& h = head.in;
  const int64_t rb = readers() * kBlock, wc = writers() * chunk_;
  take_values(h, first, rows, {}, t);
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t begin = b * kBlock, some = std::min(kBlock, rows - begin);
    if (erases()) erase_block(b, t);
    ahead.next();
    if (head.written) {
      delta_give_rows(t.values + begin * writers() * vp_, vp_, some, value_dim_, nullptr,
                      head.written, first + begin, passes_caches(h));
    }
    const int64_t of_q = (b + 1) * rb - kBlock;
    read_(t.rows + of_q * kp_, t.state, t.y);
    mix_[b](t.scores + of_q * wc, t.values, t.y);
    give_tokens(h, t.y, first + begin, some, value_dim_, vp_, nullptr, head.o);
    ahead.next();
  }
  write_state(t, t.state, ahead);
}

void DplrPlan::forward(std::span<const DeltaForward> heads, float* scratch) const {
  const int64_t count = std::ssize(heads), n = heads[0].in.micro_steps;
  const int64_t steps = heads[0].in.tokens * n;
  BRAID_CHECK(count <= kMostHeads);
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  for (int64_t i = 0; i < count; ++i)
    pack_state(heads[static_cast<size_t>(i)].state, t.states + i * size());
  for (int64_t begin = 0; begin < steps; begin += chunk_) {
    const int64_t end = std::min(begin + chunk_, steps);
    for (int64_t i = 0; i < count; ++i) {
      const DeltaForward& head = heads[static_cast<size_t>(i)];
      t.state = t.states + i * size();
      if (head.states)
        unpack_state(t.state, 1.0f, head.states[begin / chunk_], passes_caches(head.in));
      // What comes next: the next head's rows, or the first one's of the next chunk.
      DeltaAhead ahead;
      const bool last = i + 1 == count;
      const int64_t from = last ? end : begin, to = last ? std::min(end + chunk_, steps) : end;
      ahead.add_operands(heads[last ? 0 : static_cast<size_t>(i + 1)].in, from, to);
      for (int64_t first = begin; first < end;) {
        const int64_t rows = begin_run(head.in, first, end - first, t);
        take_keys(head.in, first, rows, t);
        scores(head.in, first, rows, t, ahead);
        forward_run(head, first, rows, t, ahead);
        first += rows;
      }
    }
  }
  delta_rows_done();
  for (int64_t i = 0; i < count; ++i)
    unpack_state(t.states + i * size(), 1.0f, heads[static_cast<size_t>(i)].state, false);
}

}  // namespace braid
