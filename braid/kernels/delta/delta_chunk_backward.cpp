// The backward pass of a chunk: section 5 of specs/linear-recurrences.md, with the names used there
// in comments.

#include <algorithm>

#include "braid/kernels/delta/delta_chunk.h"
#include "braid/kernels/delta/delta_chunk_tiles.h"

namespace braid {
namespace {

void zero(int64_t count, float* to) { std::fill_n(to, count, 0.0f); }

}  // namespace

DeltaChunkPlan::BackTiles DeltaChunkPlan::carve_backward(DeltaCarver& c) const {
  const int64_t rows = chunk_, side = std::max({kp_, vp_, 2 * rows});
  BackTiles b{};
  b.carry = c.floats(kp_ * vp_);
  b.d_values = c.floats(2 * rows * vp_);
  b.d_x = delta_ ? b.d_values : c.floats(rows * vp_);
  if (vector_) {
    b.k_end = c.floats(rows * kp_);
    b.key_run = c.floats(rows * kp_);
  }
  b.transposed = c.floats(side * side);
  b.result_t = c.floats(kp_ * rows);
  b.d_erase = c.floats(rows * rows);
  b.d_read = c.floats(rows * rows);
  b.d_diagonal = c.floats(rows);
  b.d_erase_t = c.floats(rows * rows);
  b.d_read_t = c.floats(rows * rows);
  b.d_rq = c.floats(2 * rows * kp_);
  b.dk = c.floats(rows * kp_);
  b.dk_state = c.floats(rows * kp_);
  b.dots = c.floats(4 * rows + kp_);
  b.dg = c.floats(rows * (vector_ ? kp_ : 1));
  return b;
}

int64_t DeltaChunkPlan::backward_scratch() const {
  DeltaCarver c(nullptr);
  carve_forward(c);
  carve_backward(c);
  return c.used();
}

double DeltaChunkPlan::backward_flops(int64_t steps) const {
  const double k = static_cast<double>(key_dim_), v = static_cast<double>(value_dim_),
               sides = delta_ ? 2 : 1;
  double flops = 0;
  for (int64_t first = 0; first < steps; first += chunk_) {
    const double rows = static_cast<double>(std::min(chunk_, steps - first));
    const int64_t n = (std::min(chunk_, steps - first) + kDeltaBlock - 1) / kDeltaBlock;
    // K D, U D^T, values S0^T, the carried gradient.
    flops += 2 * k * v * rows * (2 + 2 * sides);
    const double below = static_cast<double>(n * (n - 1) / 2 * kDeltaBlock * kDeltaBlock);
    const double squares = static_cast<double>(n * kDeltaBlock * kDeltaBlock);
    const double scores = below + squares * (vector_ ? 0.5 : 1.0);
    flops += 2 * k * scores * 3 * sides;               // A, P; their gradients into q and r; into k
    flops += 2 * v * (below + squares) * (sides + 1);  // P^T dO; dA, dP
    if (delta_) flops += 2 * v * (below + squares * 0.5);  // the solve
  }
  return flops;
}

void DeltaChunkPlan::unread_rows(int64_t rows, const float* values, const float* state_t, float* to,
                                 Ahead& ahead) const {
  for (int64_t i = 0; i < rows; i += kDeltaBlock) {
    unread_(values + i * vp_, state_t, to + i * kp_);
    ahead.next();
  }
}

// to = values state^T, from values^T: the product's result is transposed rather than the state,
// which is several times larger and then passes the caches once.
void DeltaChunkPlan::unread_transposed(int64_t rows, const float* values_t, const float* state,
                                       float* result_t, float* to, Ahead& ahead) const {
  for (int64_t d = 0; d < kp_; d += kDeltaBlock) {
    unread_t_[rows / kDeltaBlock - 1](state + d * vp_, values_t, result_t + d * chunk_);
    ahead.next();
  }
  delta_transpose(kp_, rows, result_t, chunk_, to, kp_);
}

// dU, then dX.
void DeltaChunkPlan::value_gradients(const Tiles& t, const BackTiles& b, Ahead& ahead) const {
  const int64_t padded = t.n * kDeltaBlock;
  read_rows(padded, vector_ ? b.k_end : t.k, b.carry, b.d_x, ahead);
  if (!vector_) delta_scale_rows(padded, vp_, t.to_end, b.d_x, vp_);
  delta_transpose(padded, padded, t.read, chunk_, b.transposed, chunk_);
  const float* d_out = b.d_values + t.q_row * vp_;
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock;
    mix_values_[t.n - j - 1](b.transposed + row * chunk_ + row, d_out + row * vp_,
                             b.d_x + row * vp_);
  }
  if (delta_) delta_solve_transposed(t.n, vp_, t.erase, chunk_, b.d_x);
}

// dA and dP. Leaves U^T in b.transposed.
void DeltaChunkPlan::score_gradients(const Tiles& t, const BackTiles& b) const {
  const int64_t padded = t.n * kDeltaBlock;
  delta_transpose(padded, vp_, t.u, vp_, b.transposed, chunk_);
  const float* d_out = b.d_values + t.q_row * vp_;
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock;
    if (delta_) d_score_[j](b.d_x + row * vp_, b.transposed, b.d_erase + row * chunk_);
    d_score_[j](d_out + row * vp_, b.transposed, b.d_read + row * chunk_);
  }
  if (!vector_) delta_mask_scores(t.n, pre_, t.l, chunk_, delta_ ? b.d_erase : nullptr, b.d_read);
  for (int64_t i = 0; i < padded; ++i) {
    b.d_diagonal[i] = b.d_read[i * chunk_ + i];
    b.d_read[i * chunk_ + i] = 0.0f;
  }
  if (delta_) delta_transpose(padded, padded, b.d_erase, chunk_, b.d_erase_t, chunk_);
  delta_transpose(padded, padded, b.d_read, chunk_, b.d_read_t, chunk_);
}

// Gradients of r, q and k under scalar decay: the decay between rows is in dA, dP already.
void DeltaChunkPlan::scalar_key_gradients(const Tiles& t, const BackTiles& b) const {
  const int64_t padded = t.n * kDeltaBlock;
  delta_scale_rows(t.rows, kp_, t.from_start, b.d_rq, kp_);
  delta_scale_rows(padded, kp_, t.to_end, b.dk_state, kp_);
  zero(padded * kp_, b.dk);
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock, at = row * kp_, q_at = (t.q_row + row) * kp_;
    const int64_t square = row * chunk_ + row;
    mix_keys_[j](b.d_read + row * chunk_, t.k, b.d_rq + q_at);
    mix_keys_[t.n - j - 1](b.d_read_t + square, t.rq + q_at, b.dk + at);
    if (!delta_) continue;
    mix_keys_[j](b.d_erase + row * chunk_, t.k, b.d_rq + at);
    mix_keys_[t.n - j - 1](b.d_erase_t + square, t.rq + at, b.dk + at);
  }
}

// The same under vector decay: between blocks by keys that run along, decayed to each block's
// start, and back; inside blocks by delta_diagonal_backward.
void DeltaChunkPlan::vector_key_gradients(const Tiles& t, const BackTiles& b) const {
  const int64_t padded = t.n * kDeltaBlock;
  for (int64_t j = 0; j < t.n; ++j) {
    const int64_t row = j * kDeltaBlock, at = row * kp_, q_at = (t.q_row + row) * kp_;
    for (int64_t side = 0; side < (delta_ ? 2 : 1); ++side) {
      const bool of_q = side == 0;
      float* d_row = b.d_rq + (of_q ? q_at : at);
      delta_scale_columns(kDeltaBlock, kp_, t.before + j * kp_, d_row);
      if (j > 0) mix_keys_[j - 1]((of_q ? b.d_read : b.d_erase) + row * chunk_, b.key_run, d_row);
      // Read before the decay: r of row i has the decay of row i - 1.
      const int64_t lag = !of_q && pre_ ? 1 : 0;
      delta_scale_channels(kDeltaBlock - lag, kp_, t.prefix + at, nullptr, d_row + lag * kp_,
                           d_row + lag * kp_);
    }
    if (j > 0) delta_scale_columns(row, kp_, t.total + j * kp_, b.key_run);
    std::copy_n(t.k_late + at, kDeltaBlock * kp_, b.key_run + at);
    delta_scale_channels(kDeltaBlock, kp_, t.suffix + at, t.after + j * kp_, b.dk_state + at,
                         b.dk_state + at);
  }
  zero(padded * kp_, b.dk);
  for (int64_t j = t.n - 1; j >= 0; --j) {
    const int64_t row = j * kDeltaBlock, at = row * kp_, q_at = (t.q_row + row) * kp_;
    delta_scale_channels(kDeltaBlock, kp_, t.suffix + at, nullptr, b.dk + at, b.dk + at);
    delta_diagonal_backward(kp_, pre_, t.alpha + at, t.rq + q_at, delta_ ? t.rq + at : nullptr,
                            t.k + at, b.d_erase + row * chunk_ + row, b.d_read + row * chunk_ + row,
                            chunk_, b.d_rq + q_at, b.d_rq + at, b.dk + at);
    if (j == 0) break;
    delta_scale_columns(row, kp_, t.total + j * kp_, b.dk);
    spread_[j - 1](b.d_read_t + row, t.rq_block + q_at, b.dk);
    if (delta_) spread_[j - 1](b.d_erase_t + row, t.rq_block + at, b.dk);
  }
}

// dg, from sums that leave out what cancels: the i = j terms, and the last key's way to the final
// state.
void DeltaChunkPlan::decay_gradients(const Tiles& t, const BackTiles& b) const {
  const int64_t padded = t.n * kDeltaBlock;
  float* kept = b.dots + 4 * chunk_;
  delta_row_dots(kp_, vp_, b.state, b.carry, kept);
  if (vector_) {
    for (int64_t d = 0; d < kp_; ++d) kept[d] *= t.whole[d];
    delta_vector_decay_gradient(padded, kp_, pre_, t.rq + t.q_row * kp_, b.d_rq + t.q_row * kp_,
                                delta_ ? t.rq : nullptr, b.d_rq, t.k, b.dk, b.dk_state, kept, b.dg);
    return;
  }
  float *of_q = b.dots, *of_r = of_q + chunk_, *of_k = of_r + chunk_, *of_state = of_k + chunk_;
  delta_row_dots(padded, kp_, t.rq + t.q_row * kp_, b.d_rq + t.q_row * kp_, of_q);
  if (delta_) {
    delta_row_dots(padded, kp_, t.rq, b.d_rq, of_r);
  } else {
    zero(padded, of_r);
  }
  delta_row_dots(padded, kp_, t.k, b.dk, of_k);
  delta_row_dots(padded, kp_, t.k, b.dk_state, of_state);
  double through = 0;
  for (int64_t d = 0; d < kp_; ++d) through += kept[d];
  through *= t.whole[0];
  for (int64_t i = 0; i < padded; ++i) {
    b.dg[i] = static_cast<float>(through);
    through += of_state[i];
  }
  double sum = 0;
  for (int64_t i = padded - 1; i >= 0; --i) {
    sum += static_cast<double>(of_q[i]) - of_k[i];
    if (!pre_) sum += of_r[i];
    b.dg[i] += static_cast<float>(sum);
    if (pre_) sum += of_r[i];
  }
}

// Chain rules of r and w, and the diagonal of dP; into the caller's rows.
void DeltaChunkPlan::emit(const DeltaHead<float>& h, int64_t first, int64_t rows, const Tiles& t,
                          const BackTiles& b, const DeltaHeadGrads<float>& grads,
                          DeltaPut put) const {
  const int64_t steps = h.micro_steps;
  const float sign = delta_ ? -1.0f : 1.0f;  // of d_x
  const bool decays = h.decay != DeltaDecay::kNone;
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t step = first + i, token = steps == 1 ? step : step / steps;
    const bool opens = token * steps == step, closes = token * steps + steps - 1 == step;
    const float beta = h.beta ? h.beta[step][0] : 1.0f;
    DeltaKeyRow key{};
    key.q = t.rq + (t.q_row + i) * kp_;
    key.k = t.k + i * kp_;
    key.dq = b.d_rq + (t.q_row + i) * kp_;
    key.dk = b.dk + i * kp_;
    key.dk_state = b.dk_state + i * kp_;
    key.diagonal = b.d_diagonal[i];
    key.scale = h.scale;
    if (delta_) key.dr = b.d_rq + i * kp_;
    if (h.erase == DeltaErase::kBeta) key.beta = beta;
    if (h.erase == DeltaErase::kBeta && grads.beta) key.dot = key.k;
    if (h.erase == DeltaErase::kVector) key.b = h.b[step];
    if (h.erase == DeltaErase::kVector && grads.b) key.to_b = grads.b[step];
    if (h.erase == DeltaErase::kKey && grads.beta) key.dot = h.p[step];
    if (h.erase == DeltaErase::kKey && grads.p) key.to_p = grads.p[step];
    key.beta_p = beta;
    if (grads.k) key.to_k = grads.k[step];
    if (grads.q && closes) key.to_q = grads.q[token];
    float d_beta = delta_put_keys(key_dim_, key, put);

    DeltaValueRow value{};
    value.dx = b.d_x + i * vp_;
    value.v = h.v[step];
    value.factor = h.w ? sign : sign * beta;
    if (h.w) value.w = h.w[step];
    if (grads.v) value.to_v = grads.v[step];
    if (h.w && grads.w) value.to_w = grads.w[step];
    const float dot = delta_put_values(value_dim_, value, put);
    if (h.beta && grads.beta) {
      if (!h.w) d_beta += sign * dot;
      float* to = grads.beta[step];
      to[0] = put == DeltaPut::kAdd ? to[0] + d_beta : d_beta;
    }
    if (grads.g && opens && decays) {
      const bool constant = grads.g.stride == 0;
      delta_put_row(vector_ ? key_dim_ : 1, b.dg + i * (vector_ ? kp_ : 1), grads.g[token],
                    constant ? DeltaPut::kAdd : put);
    }
  }
}

// D of the chunk before: dS0.
void DeltaChunkPlan::carry_back(const Tiles& t, const BackTiles& b, Ahead& ahead) const {
  if (!vector_) delta_scale_rows(t.rows, vp_, t.from_start, b.d_values, vp_);
  delta_transpose(t.rows, kp_, t.rq_chunk, kp_, b.transposed, 2 * chunk_);
  for (int64_t d = 0; d < kp_; d += kDeltaBlock) {
    float* carry = b.carry + d * vp_;
    delta_scale_rows(kDeltaBlock, vp_, t.whole + d, carry, vp_);
    carry_[t.rows / kDeltaBlock - 1](b.transposed + d * 2 * chunk_, b.d_values, carry);
    ahead.next();
  }
}

void DeltaChunkPlan::backward_chunk(const DeltaHead<float>& h, int64_t first, int64_t rows,
                                    Tiles& t, BackTiles& b, DeltaRows<const float> written,
                                    DeltaRows<const float> d_o, const DeltaHeadGrads<float>& grads,
                                    DeltaPut put, Ahead& ahead) const {
  prepare(h, first, rows, t, written);
  const int64_t padded = t.n * kDeltaBlock;
  for (int64_t i = 0; i < padded; ++i) {
    float* row = b.d_values + (t.q_row + i) * vp_;
    const int64_t step = first + i, token = step / h.micro_steps;
    const bool closes = i < rows && token * h.micro_steps + h.micro_steps - 1 == step;
    if (closes) std::copy_n(d_o[token], value_dim_, row);
    zero(closes ? vp_ - value_dim_ : vp_, row + (closes ? value_dim_ : 0));
  }
  if (vector_) {
    for (int64_t j = 0; j < t.n; ++j) {
      const int64_t at = j * kDeltaBlock * kp_;
      delta_scale_channels(kDeltaBlock, kp_, t.suffix + at, t.after + j * kp_, t.k + at,
                           b.k_end + at);
    }
  }
  value_gradients(t, b, ahead);
  score_gradients(t, b);
  unread_transposed(padded, b.transposed, b.carry, b.result_t, b.dk_state, ahead);
  if (delta_) {
    delta_transpose(kp_, vp_, b.state, vp_, b.transposed, kp_);
    unread_rows(t.rows, b.d_values, b.transposed, b.d_rq, ahead);
  } else {
    delta_transpose(padded, vp_, b.d_values, vp_, b.transposed, chunk_);
    unread_transposed(padded, b.transposed, b.state, b.result_t, b.d_rq, ahead);
  }
  if (vector_) {
    vector_key_gradients(t, b);
  } else {
    scalar_key_gradients(t, b);
  }
  if (grads.g && h.decay != DeltaDecay::kNone) decay_gradients(t, b);
  emit(h, first, rows, t, b, grads, put);
  carry_back(t, b, ahead);
}

void DeltaChunkPlan::backward(const DeltaHead<float>& h, const DeltaSaved<const float>& saved,
                              DeltaRows<const float> d_o, float* carry,
                              const DeltaHeadGrads<float>& grads, bool add, float* scratch) const {
  DeltaCarver carver(scratch);
  Tiles t = carve_forward(carver);
  BackTiles b = carve_backward(carver);
  pack_state(carry, b.carry);
  const DeltaPut put = add                ? DeltaPut::kAdd
                       : passes_caches(h) ? DeltaPut::kStream
                                          : DeltaPut::kStore;
  const int64_t steps = h.tokens * h.micro_steps;
  for (int64_t chunk = chunks(steps) - 1; chunk >= 0; --chunk) {
    const int64_t first = chunk * chunk_;
    b.state = saved.states[chunk];
    if (kp_ != key_dim_ || vp_ != value_dim_) {
      pack_state(saved.states[chunk], t.state);
      b.state = t.state;
    }
    Ahead ahead(h, std::max<int64_t>(first - chunk_, 0), first);
    ahead.also(d_o);
    if (saved.written)
      ahead.instead_of_values(saved.written, h.v, first, std::min(first + chunk_, steps));
    if (chunk > 0) ahead.also(saved.states[chunk - 1], key_dim_ * value_dim_);
    backward_chunk(h, first, std::min(chunk_, steps - first), t, b, saved.written, d_o, grads, put,
                   ahead);
  }
  delta_rows_done();
  unpack_state(b.carry, carry);
}

}  // namespace braid
