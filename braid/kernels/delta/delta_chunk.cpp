#include "braid/kernels/delta/delta_chunk.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "braid/base/error.h"
#include "braid/kernels/delta/delta_chunk_tiles.h"

namespace braid {
namespace {

constexpr int64_t round_up(int64_t n) { return (n + kDeltaBlock - 1) / kDeltaBlock * kDeltaBlock; }

// exp(-1e4) is 0 and sums of such stay finite: -inf would make differences NaN.
constexpr float kStrongestDecay = -1e4f;

void fill(int64_t count, float value, float* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i] = value;
}

void copy_padded(int64_t count, int64_t padded, const float* __restrict__ from,
                 float* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
  for (int64_t i = count; i < padded; ++i) to[i] = 0.0f;
}

void scale_padded(int64_t count, int64_t padded, float factor, const float* __restrict__ from,
                  float* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i] = factor * from[i];
  for (int64_t i = count; i < padded; ++i) to[i] = 0.0f;
}

void multiply_padded(int64_t count, int64_t padded, const float* __restrict__ a,
                     const float* __restrict__ b, float* __restrict__ to) {
  for (int64_t i = 0; i < count; ++i) to[i] = a[i] * b[i];
  for (int64_t i = count; i < padded; ++i) to[i] = 0.0f;
}

}  // namespace

DeltaChunkPlan::DeltaChunkPlan(int64_t key_dim, int64_t value_dim, DeltaDecay decay,
                               DeltaErase erase, int64_t chunk)
    : key_dim_(key_dim),
      value_dim_(value_dim),
      kp_(round_up(key_dim)),
      vp_(round_up(value_dim)),
      chunk_(chunk == 0 ? 32 : chunk),
      delta_(erase != DeltaErase::kNone),
      vector_(decay == DeltaDecay::kVector),
      pre_(erase == DeltaErase::kKey) {
  BRAID_CHECK(erase != DeltaErase::kPair);  // delta_pair.h
  BRAID_CHECK(chunk_ % kDeltaBlock == 0 && chunk_ >= kDeltaBlock &&
              chunk_ <= kMaxBlocks * kDeltaBlock);
  const int64_t c = chunk_;
  read_ = SmallGemm(kDeltaBlock, vp_, kp_, kp_, vp_, vp_, false);
  unread_ = SmallGemm(kDeltaBlock, kp_, vp_, vp_, kp_, kp_, false);
  for (int64_t i = 0; i < 2 * c / kDeltaBlock; ++i) {
    const int64_t w = (i + 1) * kDeltaBlock;
    carry_[i] = SmallGemm(kDeltaBlock, vp_, w, 2 * c, vp_, vp_, true);
    if (w > c) continue;
    score_[i] = SmallGemm(kDeltaBlock, w, kp_, kp_, c, c, false);
    mix_values_[i] = SmallGemm(kDeltaBlock, vp_, w, c, vp_, vp_, true);
    d_score_[i] = SmallGemm(kDeltaBlock, w, vp_, vp_, c, c, false);
    unread_t_[i] = SmallGemm(kDeltaBlock, w, vp_, vp_, c, c, false);
    mix_keys_[i] = SmallGemm(kDeltaBlock, kp_, w, c, kp_, kp_, true);
    spread_[i] = SmallGemm(w, kp_, kDeltaBlock, c, kp_, kp_, true);
  }
}

DeltaChunkPlan::Tiles DeltaChunkPlan::carve_forward(DeltaCarver& c) const {
  const int64_t rows = chunk_, blocks = chunk_ / kDeltaBlock;
  Tiles t{};
  t.rq = c.floats(2 * rows * kp_);
  t.rq_chunk = t.rq;
  t.k = c.floats(rows * kp_);
  t.kt = c.floats(rows * kp_);
  t.erase = c.floats(rows * rows);
  t.read = c.floats(rows * rows);
  t.y = c.floats(2 * rows * vp_);
  t.u = c.floats(rows * vp_);
  t.state = c.floats(kp_ * vp_);
  t.whole = c.floats(kp_);
  if (vector_) {
    t.rq_block = c.floats(2 * rows * kp_);
    t.rq_chunk = c.floats(2 * rows * kp_);
    t.k_late = c.floats(rows * kp_);
    t.alpha = c.floats(rows * kp_);
    t.prefix = c.floats(rows * kp_);
    t.suffix = c.floats(rows * kp_);
    t.total = c.floats(blocks * kp_);
    t.before = c.floats(blocks * kp_);
    t.after = c.floats(blocks * kp_);
  } else {
    t.l = c.floats(rows * rows);
  }
  t.from_start = c.floats(2 * rows);
  t.to_end = c.floats(rows);
  t.sums = reinterpret_cast<double*>(c.floats(2 * rows));
  return t;
}

int64_t DeltaChunkPlan::forward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  return c.used();
}

double DeltaChunkPlan::forward_flops(int64_t steps) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_),
               sides = delta_ ? 2 : 1;
  double flops = 0;
  for (int64_t first = 0; first < steps; first += chunk_) {
    const int64_t n = round_up(std::min(chunk_, steps - first)) / kDeltaBlock;
    const double rows = static_cast<double>(std::min(chunk_, steps - first));
    flops += 2 * k * v * rows * (sides + 1);  // read and write of the state
    // Whole blocks below the diagonal; on it, scores of vector decays and the solve do the triangle
    // only.
    const double below = static_cast<double>(n * (n - 1) / 2 * kDeltaBlock * kDeltaBlock);
    const double squares = static_cast<double>(n * kDeltaBlock * kDeltaBlock);
    flops += 2 * sides * k * (below + squares * (vector_ ? 0.5 : 1.0)) + 2 * v * (below + squares);
    if (delta_) flops += 2 * v * (below + squares * 0.5);
  }
  return flops;
}

void DeltaChunkPlan::pack(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                          DeltaRows<const float> written) const {
  const int64_t padded = t.n * kDeltaBlock, steps = h.micro_steps;
  const bool decays = h.decay != DeltaDecay::kNone;
  double sum = 0;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t step = first + i, token = steps == 1 ? step : step / steps;
    const bool opens = token * steps == step, closes = token * steps + steps - 1 == step;
    float* q = t.rq + (t.q_row + i) * kp_;
    float* r = t.rq + i * kp_;
    if (closes) {
      scale_padded(key_dim_, kp_, h.scale, h.q[token], q);
    } else {
      fill(kp_, 0.0f, q);
    }
    copy_padded(key_dim_, kp_, h.k[step], t.k + i * kp_);
    switch (h.erase) {
      case DeltaErase::kNone:
      case DeltaErase::kPair:
        break;
      case DeltaErase::kBeta:
        scale_padded(key_dim_, kp_, h.beta[step][0], h.k[step], r);
        break;
      case DeltaErase::kVector:
        multiply_padded(key_dim_, kp_, h.b[step], h.k[step], r);
        break;
      case DeltaErase::kKey:
        scale_padded(key_dim_, kp_, h.beta[step][0], h.p[step], r);
        break;
    }
    if (written) {
      copy_padded(value_dim_, vp_, written[step], t.u + i * vp_);
    } else if (h.w) {
      multiply_padded(value_dim_, vp_, h.w[step], h.v[step], t.u + i * vp_);
    } else {
      scale_padded(value_dim_, vp_, h.beta ? h.beta[step][0] : 1.0f, h.v[step], t.u + i * vp_);
    }
    if (vector_) {
      if (opens) {
        copy_padded(key_dim_, kp_, h.g[token], t.alpha + i * kp_);
      } else {
        fill(kp_, 0.0f, t.alpha + i * kp_);
      }
    } else {
      if (decays && opens) sum += std::max(h.g[token][0], kStrongestDecay);
      t.sums[i] = sum;
    }
  }
  // Rows past the end change nothing: zero operands, no decay.
  const int64_t extra = padded - rows;
  fill(extra * kp_, 0.0f, t.rq + (t.q_row + rows) * kp_);
  if (delta_) fill(extra * kp_, 0.0f, t.rq + rows * kp_);
  fill(extra * kp_, 0.0f, t.k + rows * kp_);
  fill(extra * vp_, 0.0f, t.u + rows * vp_);
  if (vector_) {
    fill(extra * kp_, 0.0f, t.alpha + rows * kp_);
  } else {
    for (int64_t i = rows; i < padded; ++i) t.sums[i] = sum;
  }
}

void DeltaChunkPlan::scalar_scores(const Tiles& t) const {
  const int64_t padded = t.n * kDeltaBlock;
  delta_transpose(padded, kp_, t.k, kp_, t.kt, chunk_);
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t row = b * kDeltaBlock;
    if (delta_) score_[b](t.rq + row * kp_, t.kt, t.erase + row * chunk_);
    score_[b](t.rq + (t.q_row + row) * kp_, t.kt, t.read + row * chunk_);
  }
  delta_decay_matrix(t.n, t.sums, t.l, chunk_);
  delta_mask_scores(t.n, pre_, t.l, chunk_, delta_ ? t.erase : nullptr, t.read);
  float* of_q = t.from_start + t.q_row;
  for (int64_t i = 0; i < padded; ++i) {
    of_q[i] = static_cast<float>(t.sums[i]);
    t.to_end[i] = static_cast<float>(t.sums[padded - 1] - t.sums[i]);
  }
  delta_exp(padded, of_q);
  delta_exp(padded, t.to_end);
  fill(kp_, of_q[padded - 1], t.whole);
  if (!delta_) return;
  if (pre_) t.from_start[0] = 1.0f;
  for (int64_t i = pre_ ? 1 : 0; i < padded; ++i) t.from_start[i] = of_q[pre_ ? i - 1 : i];
}

void DeltaChunkPlan::vector_scores(const Tiles& t) const {
  const int64_t padded = t.n * kDeltaBlock;
  delta_exp(padded * kp_, t.alpha);
  delta_vector_decay(t.n, kp_, t.alpha, t.prefix, t.suffix, t.total, t.before, t.after, t.whole);
  delta_scale_channels(padded, kp_, t.prefix, nullptr, t.rq + t.q_row * kp_,
                       t.rq_block + t.q_row * kp_);
  if (delta_ && !pre_) delta_scale_channels(padded, kp_, t.prefix, nullptr, t.rq, t.rq_block);
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t row = b * kDeltaBlock, at = row * kp_, q_at = (t.q_row + row) * kp_;
    if (delta_ && pre_) {
      copy_padded(kp_, kp_, t.rq + at, t.rq_block + at);
      delta_scale_channels(kDeltaBlock - 1, kp_, t.prefix + at, nullptr, t.rq + at + kp_,
                           t.rq_block + at + kp_);
    }
    float* erase = t.erase + row * chunk_;
    float* read = t.read + row * chunk_;
    if (b > 0) {
      // kt holds the keys of the blocks before, decayed to the start of this one.
      if (delta_) score_[b - 1](t.rq_block + at, t.kt, erase);
      score_[b - 1](t.rq_block + q_at, t.kt, read);
      delta_scale_rows(kp_, row, t.total + b * kp_, t.kt, chunk_);
    }
    delta_diagonal(kp_, pre_, t.alpha + at, t.rq + q_at, delta_ ? t.rq + at : nullptr, t.k + at,
                   erase + row, read + row, chunk_);
    delta_scale_channels(kDeltaBlock, kp_, t.suffix + at, nullptr, t.k + at, t.k_late + at);
    delta_transpose(kDeltaBlock, kp_, t.k_late + at, kp_, t.kt + row, chunk_);
    if (delta_) {
      copy_padded(kDeltaBlock * kp_, kDeltaBlock * kp_, t.rq_block + at, t.rq_chunk + at);
      delta_scale_columns(kDeltaBlock, kp_, t.before + b * kp_, t.rq_chunk + at);
    }
    copy_padded(kDeltaBlock * kp_, kDeltaBlock * kp_, t.rq_block + q_at, t.rq_chunk + q_at);
    delta_scale_columns(kDeltaBlock, kp_, t.before + b * kp_, t.rq_chunk + q_at);
  }
}

void DeltaChunkPlan::prepare(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                             DeltaRows<const float> written) const {
  t.n = round_up(rows) / kDeltaBlock;
  t.q_row = delta_ ? t.n * kDeltaBlock : 0;
  t.rows = t.q_row + t.n * kDeltaBlock;
  pack(h, first, rows, t, written);
  if (vector_) {
    vector_scores(t);
  } else {
    scalar_scores(t);
  }
}

void DeltaChunkPlan::read_rows(int64_t rows, const float* keys, const float* state, float* y,
                               Ahead& ahead) const {
  for (int64_t i = 0; i < rows; i += kDeltaBlock) {
    read_(keys + i * kp_, state, y + i * vp_);
    ahead.next();
  }
}

void DeltaChunkPlan::forward_chunk(const DeltaHead<float>& h, int64_t first, int64_t rows, Tiles& t,
                                   DeltaRows<float> o, DeltaRows<float> written,
                                   Ahead& ahead) const {
  prepare(h, first, rows, t, {});
  const int64_t padded = t.n * kDeltaBlock;
  read_rows(t.rows, t.rq_chunk, t.state, t.y, ahead);
  if (!vector_ && h.decay != DeltaDecay::kNone)
    delta_scale_rows(t.rows, vp_, t.from_start, t.y, vp_);
  if (delta_) {
    delta_subtract(padded * vp_, t.y, t.u);
    delta_solve(t.n, vp_, t.erase, chunk_, t.u);
    for (int64_t i = 0; i < rows && written; ++i) {
      std::memcpy(written[first + i], t.u + i * vp_,
                  static_cast<size_t>(value_dim_) * sizeof(float));
    }
  }
  float* out = t.y + t.q_row * vp_;
  for (int64_t b = 0; b < t.n; ++b) {
    const int64_t row = b * kDeltaBlock;
    mix_values_[b](t.read + row * chunk_, t.u, out + row * vp_);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t step = first + i, token = h.micro_steps == 1 ? step : step / h.micro_steps;
    if (step - token * h.micro_steps != h.micro_steps - 1) continue;
    std::memcpy(o[token], out + i * vp_, static_cast<size_t>(value_dim_) * sizeof(float));
  }
  if (!vector_ && h.decay != DeltaDecay::kNone) delta_scale_rows(padded, vp_, t.to_end, t.u, vp_);
  for (int64_t d = 0; d < kp_; d += kDeltaBlock) {
    float* state = t.state + d * vp_;
    if (h.decay != DeltaDecay::kNone) delta_scale_rows(kDeltaBlock, vp_, t.whole + d, state, vp_);
    mix_values_[t.n - 1](t.kt + d * chunk_, t.u, state);
    ahead.next();
  }
}

void DeltaChunkPlan::forward(const DeltaHead<float>& h, float* state, DeltaRows<float> o,
                             const DeltaSaved<float>& saved, float* scratch) const {
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  pack_state(state, t.state);
  const int64_t steps = h.tokens * h.micro_steps;
  for (int64_t first = 0; first < steps; first += chunk_) {
    if (saved.states) unpack_state(t.state, saved.states[first / chunk_]);
    const int64_t end = std::min(first + chunk_, steps);
    Ahead ahead(h, end, std::min(end + chunk_, steps));
    ahead.current(DeltaRows<const float>{o.data, o.stride}, first / h.micro_steps,
                  end / h.micro_steps);
    forward_chunk(h, first, end - first, t, o, saved.written, ahead);
  }
  unpack_state(t.state, state);
}

void DeltaChunkPlan::pack_state(const float* state, float* tile) const {
  for (int64_t d = 0; d < key_dim_; ++d) {
    copy_padded(value_dim_, vp_, state + d * value_dim_, tile + d * vp_);
  }
  fill((kp_ - key_dim_) * vp_, 0.0f, tile + key_dim_ * vp_);
}

void DeltaChunkPlan::unpack_state(const float* tile, float* state) const {
  for (int64_t d = 0; d < key_dim_; ++d) {
    std::memcpy(state + d * value_dim_, tile + d * vp_,
                static_cast<size_t>(value_dim_) * sizeof(float));
  }
}

}  // namespace braid
