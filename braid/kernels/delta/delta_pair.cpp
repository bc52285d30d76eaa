#include "braid/kernels/delta/delta_pair.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/kernels/delta/delta_pair_kernel.h"
#include "braid/kernels/delta/delta_pair_tiles.h"
#include "braid/kernels/delta/delta_rows.h"
#include "braid/kernels/delta/delta_shared_kernel.h"

namespace braid {
namespace {

constexpr int64_t kBlock = kDeltaBlock, kPair = 2 * kDeltaBlock;

constexpr int64_t round_up(int64_t n) { return (n + kBlock - 1) / kBlock * kBlock; }

// Keys are divided by decays down to this: e^-40.
constexpr float kMildest = 4.2e-18f;

}  // namespace

DeltaPairPlan::DeltaPairPlan(int64_t key_dim, int64_t value_dim, int64_t chunk)
    : key_dim_(key_dim),
      value_dim_(value_dim),
      kp_(round_up(key_dim)),
      vp_(round_up(value_dim)),
      chunk_(chunk == 0 ? 32 : chunk) {
  BRAID_CHECK(chunk_ % kBlock == 0 && chunk_ >= kBlock && chunk_ <= kMaxBlocks * kBlock);
  const int64_t c = 2 * chunk_;
  read_ = SmallGemm(kPair, vp_, kp_, kp_, vp_, vp_, false);
  mix_own_ = SmallGemm(kBlock, vp_, kBlock, c, vp_, vp_, true);
  mix_back_own_ = SmallGemm(kPair, vp_, kBlock, c, vp_, vp_, true);
  for (int64_t i = 0; i < chunk_ / kBlock; ++i) {
    const int64_t w = (i + 1) * kPair;
    score_[i] = SmallGemm(kPair, w, kp_, kp_, c, c, false);
    mix_[i] = SmallGemm(kBlock, vp_, w, c, vp_, vp_, true);
    mix_back_[i] = SmallGemm(kPair, vp_, w, c, vp_, vp_, true);
    write_[i] = SmallGemm(kBlock, vp_, w, c, vp_, vp_, true);
    d_score_[i] = SmallGemm(kPair, w, vp_, vp_, c, c, false);
    unread_[i] = SmallGemm(kBlock, w, vp_, vp_, c, c, false);
    mix_keys_[i] = SmallGemm(kPair, kp_, w, c, kp_, kp_, true);
  }
}

DeltaPairPlan::Tiles DeltaPairPlan::carve_forward(DeltaCarver& c) const {
  const int64_t rows = 2 * chunk_;
  Tiles t{};
  t.alpha = c.floats(chunk_ * kp_);
  t.decay = c.floats(chunk_ * kp_);
  t.after = c.floats(chunk_ * kp_);
  t.whole = c.floats(kp_);
  t.inverse = c.floats(kp_);
  t.rows = c.floats(rows * kp_);
  t.plain = c.floats(kPair * kp_);
  t.keys = c.floats(rows * kp_);
  t.keys_t = c.floats(rows * kp_);
  t.raised_t = c.floats(rows * kp_);
  t.scores = c.floats(rows * rows);
  t.values = c.floats(rows * vp_);
  t.y = c.floats(rows * vp_);
  t.states = c.floats(kMostHeads * kp_ * vp_);
  return t;
}

int64_t DeltaPairPlan::forward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  return c.used();
}

double DeltaPairPlan::forward_flops(int64_t tokens) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_);
  double flops = 0;
  for (int64_t first = 0; first < tokens; first += chunk_) {
    const double rows = static_cast<double>(std::min(chunk_, tokens - first));
    const double n = static_cast<double>(round_up(std::min(chunk_, tokens - first)) / kBlock);
    const double squares = n * (n + 1) / 2 * kPair * kPair;
    // Scores, the state read and written, values by scores; of the solve only the triangle.
    flops += 2 * k * squares + 8 * k * v * rows + v * (2 * squares - n * kBlock * kBlock);
  }
  return flops;
}

// Rows and keys of the run that begins at `first` and has at most `rows` tokens. Returns how many.
int64_t DeltaPairPlan::prepare(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                               DeltaAhead& ahead) const {
  pair_take_rows(h, first, rows, kp_, t.alpha, t.decay, t.rows);
  const int64_t mild = pair_mild_rows(rows, key_dim_, kp_, t.decay, kMildest);
  const bool alone = mild == 0;
  const int64_t run = std::max<int64_t>(mild, 1);
  if (run < rows) pair_take_rows(h, first, run, kp_, t.alpha, t.decay, t.rows);
  t.n = round_up(run) / kBlock;
  const int64_t padded = t.n * kBlock;
  pair_take_keys(h, first, run, kp_, t.alpha, t.after, t.keys);
  std::copy_n(t.decay + (padded - 1) * kp_, kp_, t.whole);
  t.scored = t.rows;
  if (alone) {
    std::fill_n(t.inverse, kp_, 1.0f);
    std::fill_n(t.plain, kPair * kp_, 0.0f);
    for (int64_t d = 0; d < key_dim_; ++d) t.plain[kBlock * kp_ + d] = h.scale * h.q[first][d];
    t.scored = t.plain;
  } else {
    for (int64_t d = 0; d < kp_; ++d) t.inverse[d] = 1.0f / t.whole[d];
  }
  scores(t, ahead);
  return run;
}

void DeltaPairPlan::scores(Tiles& t, DeltaAhead& ahead) const {
  const int64_t rows = t.n * kPair, c = 2 * chunk_;
  delta_transpose(rows, kp_, t.keys, kp_, t.keys_t, c);
  std::copy_n(t.keys_t, kp_ * c, t.raised_t);
  delta_scale_rows(kp_, rows, t.inverse, t.raised_t, c);
  for (int64_t b = 0; b < t.n; ++b) {
    score_[b](t.scored + b * kPair * kp_, t.raised_t, t.scores + b * kPair * c);
    ahead.next();
  }
  pair_mask_scores(t.n, t.scores, c);
}

// v, and u where it is known.
void DeltaPairPlan::take_values(const DeltaHead<float>& h, int64_t first, int64_t rows,
                                DeltaRows<const float> written, const Tiles& t) const {
  float ones[kBlock];
  std::fill_n(ones, kBlock, 1.0f);
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t begin = b * kBlock, some = std::min(kBlock, rows - begin);
    float* to = t.values + b * kPair * vp_;
    if (written) {
      delta_take_rows(written, {}, first + begin, some, kBlock, value_dim_, vp_, ones, to);
    }
    delta_take_rows(h.v, {}, first + begin, some, kBlock, value_dim_, vp_, ones, to + kBlock * vp_);
  }
}

// The state after the run: state = Diag(whole) state + keys^T values; and so the gradient before
// it.
void DeltaPairPlan::write_state(const Tiles& t, const float* keys_t, const float* values,
                                float* state, DeltaAhead& ahead) const {
  for (int64_t d = 0; d < kp_; d += kBlock) {
    delta_scale_rows(kBlock, vp_, t.whole + d, state + d * vp_, vp_);
    write_[t.n - 1](keys_t + d * 2 * chunk_, values, state + d * vp_);
    ahead.next();
  }
}

void DeltaPairPlan::forward_run(const DeltaForward& head, int64_t first, int64_t rows,
                                const Tiles& t, DeltaAhead& ahead) const {
  const DeltaHead<float>& h = head.in;
  const int64_t c = 2 * chunk_;
  const bool stream = passes_caches(h);
  take_values(h, first, rows, {}, t);
  for (int64_t b = 0; b < t.n; ++b) {
    read_(t.rows + b * kPair * kp_, t.state, t.y + b * kPair * vp_);
    ahead.next();
  }
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t begin = b * kBlock, some = std::min(kBlock, rows - begin);
    const float* of_p = t.scores + b * kPair * c;
    float *y = t.y + b * kPair * vp_, *u = t.values + b * kPair * vp_;
    std::copy_n(y, kBlock * vp_, u);
    if (b > 0) mix_[b - 1](of_p, t.values, u);
    ahead.next();
    mix_own_(of_p + b * kPair + kBlock, u + kBlock * vp_, u);
    delta_solve(1, vp_, of_p + b * kPair, c, u);
    if (head.written)
      delta_give_rows(u, vp_, some, value_dim_, nullptr, head.written, first + begin, stream);
    mix_[b](of_p + kBlock * c, t.values, y + kBlock * vp_);
    delta_give_rows(y + kBlock * vp_, vp_, some, value_dim_, nullptr, head.o, first + begin,
                    stream);
    ahead.next();
  }
  write_state(t, t.keys_t, t.values, t.state, ahead);
}

void DeltaPairPlan::forward(std::span<const DeltaForward> heads, float* scratch) const {
  const int64_t count = std::ssize(heads), tokens = heads[0].in.tokens, size = kp_ * vp_;
  BRAID_CHECK(count <= kMostHeads);
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  for (int64_t i = 0; i < count; ++i)
    pack_state(heads[static_cast<size_t>(i)].state, t.states + i * size);
  for (int64_t begin = 0; begin < tokens; begin += chunk_) {
    const int64_t end = std::min(begin + chunk_, tokens);
    for (int64_t i = 0; i < count; ++i) {
      const DeltaForward& head = heads[static_cast<size_t>(i)];
      t.state = t.states + i * size;
      if (head.states) unpack_state(t.state, head.states[begin / chunk_], passes_caches(head.in));
      // What comes next: the next head's rows, or the first one's of the next chunk.
      DeltaAhead ahead;
      const bool last = i + 1 == count;
      const DeltaHead<float>& next = heads[last ? 0 : static_cast<size_t>(i + 1)].in;
      const int64_t from = last ? end : begin, to = std::min(from + chunk_, tokens);
      for (const DeltaRows<const float>& rows : {next.g, next.p, next.q, next.k, next.b})
        ahead.add(rows, from, to, key_dim_);
      ahead.add(next.v, from, to, value_dim_);
      for (int64_t first = begin; first < end;) {
        const int64_t rows = prepare(head.in, first, end - first, t, ahead);
        forward_run(head, first, rows, t, ahead);
        first += rows;
      }
    }
  }
  delta_rows_done();
  for (int64_t i = 0; i < count; ++i)
    unpack_state(t.states + i * size, heads[static_cast<size_t>(i)].state, false);
}

void DeltaPairPlan::pack_state(const float* state, float* tile) const {
  for (int64_t d = 0; d < key_dim_; ++d) {
    std::copy_n(state + d * value_dim_, value_dim_, tile + d * vp_);
    std::fill_n(tile + d * vp_ + value_dim_, vp_ - value_dim_, 0.0f);
  }
  std::fill_n(tile + key_dim_ * vp_, (kp_ - key_dim_) * vp_, 0.0f);
}

void DeltaPairPlan::unpack_state(const float* tile, float* state, bool stream) const {
  if (vp_ == value_dim_) {
    delta_copy_scaled(key_dim_ * value_dim_, 1.0f, tile, state, stream);
    return;
  }
  for (int64_t d = 0; d < key_dim_; ++d)
    delta_copy_scaled(value_dim_, 1.0f, tile + d * vp_, state + d * value_dim_, false);
}

}  // namespace braid
