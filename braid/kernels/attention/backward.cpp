#include "braid/kernels/attention/backward.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/kernels/attention/decays.h"
#include "braid/kernels/attention/pack.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/gemm/small.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;
constexpr int64_t kTile = kKvTile;

// Rows past the end of the sequence are zero, so products with them are too.
void pack_padded(const float* from, int64_t ld, int64_t rows, int64_t d, float scale, float* to) {
  pack_rows(from, ld, rows, d, scale, to);
  std::fill(to + rows * d, to + kTile * d, 0.0f);
}

void pack_columns_padded(const float* from, int64_t ld, int64_t rows, int64_t d, float* to) {
  if (rows < kTile) std::fill(to, to + kTile * d, 0.0f);
  pack_columns(from, ld, rows, d, 0, to);
}

// The scratch of one head: matrices [tiles][64 * d or dv], then vectors [tiles][64], then what one
// pair of tiles needs.
struct Buffers {
  Buffers(float* scratch, const AttentionConfig& config, int64_t tiles) {
    const int64_t d = config.head_dim, dv = config.values();
    const auto take = [&](int64_t count) {
      float* at = scratch;
      scratch += count;
      return at;
    };
    for (float** m : {&q, &qt, &k, &kt, &dqt}) *m = take(tiles * kTile * d);
    for (float** m : {&g, &gt, &v}) *m = take(tiles * kTile * dv);
    lse = take(tiles * kTile);
    delta = take(tiles * kTile);
    scores = take(kTile * kTile);
    d_p = take(kTile * kTile);
    slope = take(config.softcap > 0 ? kTile * kTile : 0);
    d_k = take(kTile * d);
    d_v = take(kTile * dv);
    decays = reinterpret_cast<double*>(take(config.forgets ? 2 * tiles * kTile : 0));
    d_decays = reinterpret_cast<double*>(take(config.forgets ? 2 * tiles * kTile : 0));
  }
  static int64_t floats(const AttentionConfig& config, int64_t tiles) {
    const int64_t d = config.head_dim, dv = config.values();
    return tiles * kTile * (5 * d + 3 * dv + 2) + (config.softcap > 0 ? 3 : 2) * kTile * kTile +
           kTile * (d + dv) + (config.forgets ? 4 * tiles * kTile : 0);
  }
  float *q, *qt, *k, *kt, *dqt;  // q and k as rows; qt, kt and the gradient of q as columns [d, 64]
  float *g, *gt, *v;             // d_out as rows and as columns, v as rows
  float *lse, *delta;
  float *scores, *d_p, *slope, *d_k, *d_v;
  double *decays, *d_decays;  // sums of forget gates, and of dS over the queries of each key
};

void pack_tile(const AttentionConfig& config, const AttentionHead& h, int64_t tile, int64_t rows,
               Buffers& b) {
  const int64_t d = config.head_dim, dv = config.values(), first = tile * kTile;
  const int64_t at = first * d, at_v = first * dv;
  const float scale = config.scale * kLog2E;
  pack_padded(h.q + first * h.ld_q, h.ld_q, rows, d, scale, b.q + at);
  pack_columns_padded(b.q + at, d, kTile, d, b.qt + at);
  pack_padded(h.d_out + first * h.ld_out, h.ld_out, rows, dv, 1.0f, b.g + at_v);
  pack_columns_padded(b.g + at_v, dv, kTile, dv, b.gt + at_v);
  pack_padded(h.k + first * h.ld_k, h.ld_k, rows, d, 1.0f, b.k + at);
  pack_columns_padded(b.k + at, d, kTile, d, b.kt + at);
  pack_padded(h.v + first * h.ld_v, h.ld_v, rows, dv, 1.0f, b.v + at_v);
  std::fill(b.dqt + at, b.dqt + at + kTile * d, 0.0f);
  row_dots(h.out + first * h.ld_out, h.d_out + first * h.ld_out, h.ld_out, rows, dv,
           b.delta + first);
  std::copy(h.lse + first, h.lse + first + rows, b.lse + first);
  std::fill(b.delta + first + rows, b.delta + first + kTile, 0.0f);
  // An infinite denominator makes every probability of a row that does not exist zero.
  std::fill(b.lse + first + rows, b.lse + first + kTile, std::numeric_limits<float>::infinity());
}

// A sink takes its share of the probability and gives no value: dS = P (0 - delta).
float sink_gradient(const float* lse, const float* delta, int64_t length, float sink) {
  double sum = 0;
  for (int64_t t = 0; t < length; ++t)
    sum -= static_cast<double>(std::exp2(sink * kLog2E - lse[t])) * delta[t];
  return static_cast<float>(sum);
}

}  // namespace

int64_t attention_backward_scratch(const AttentionConfig& config, int64_t length) {
  return Buffers::floats(config, kv_tiles(length));
}

void attention_backward_head(const AttentionConfig& config, int64_t length, const AttentionHead& h,
                             float* scratch) {
  const int64_t d = config.head_dim, dv = config.values(), tiles = kv_tiles(length);
  Buffers b(scratch, config, tiles);
  const auto rows_of = [&](int64_t tile) { return std::min(kTile, length - tile * kTile); };
  for (int64_t t = 0; t < tiles; ++t) pack_tile(config, h, t, rows_of(t), b);

  // Everything is transposed [keys, queries], so that no product needs a transposed operand made
  // inside the loop.
  const SmallGemm to_scores(kTile, kTile, d, d, kTile, kTile, false);
  const SmallGemm to_d_p(kTile, kTile, dv, dv, kTile, kTile, false);
  const SmallGemm to_d_k(kTile, d, kTile, kTile, d, d, true);
  const SmallGemm to_d_v(kTile, dv, kTile, kTile, dv, dv, true);
  const SmallGemm to_columns(d, kTile, kTile, kTile, kTile, kTile, true);
  float* slope = config.softcap > 0 ? b.slope : nullptr;
  if (config.forgets) {
    std::fill(b.decays, b.decays + 2 * tiles * kTile, 0.0);
    cumulate_decays(h.log_f, h.ld_f, length, 0, b.decays);
  }
  for (int64_t j = 0; j < tiles; ++j) {
    const int64_t key = j * kTile;
    std::fill(b.d_k, b.d_k + kTile * (d + dv), 0.0f);
    // The last query that sees any of these keys: those of the prefix, which come first, every one.
    const int64_t longest = key < config.prefix ? key : key + kTile - 1;
    const int64_t last = std::min(tiles * kTile, config.end_query(longest)) - 1;
    for (int64_t i = j; i <= last / kTile; ++i) {
      const int64_t query = i * kTile;
      to_scores(b.k + key * d, b.qt + query * d, b.scores);
      to_d_p(b.v + key * dv, b.gt + query * dv, b.d_p);
      if (slope != nullptr) softcap_scores(b.scores, kTile * kTile, config.softcap * kLog2E, slope);
      if (config.forgets)
        add_decay_differences(b.decays + key, kTile, b.decays + query, -1.0f, b.scores);
      softmax_backward_tile(config, key, query, b.lse + query, b.delta + query, slope, b.scores,
                            b.d_p);
      if (config.forgets) add_row_sums(b.d_p, b.d_decays + key);
      to_d_v(b.scores, b.g + query * dv, b.d_v);
      to_d_k(b.d_p, b.q + query * d, b.d_k);
      to_columns(b.kt + key * d, b.d_p, b.dqt + query * d);
    }
    const int64_t rows = rows_of(j);
    for (int64_t r = 0; r < rows; ++r) {
      // q carries scale * log2 e
      pack_rows(b.d_k + r * d, d, 1, d, kLn2, h.d_k + (key + r) * h.ld_dk);
      pack_rows(b.d_v + r * dv, dv, 1, dv, 1.0f, h.d_v + (key + r) * h.ld_dv);
    }
  }
  for (int64_t i = 0; i < tiles; ++i) {
    unpack_columns(b.dqt + i * kTile * d, rows_of(i), d, config.scale, h.d_q + i * kTile * h.ld_dq,
                   h.ld_dq);
  }
  if (config.forgets) decay_gradient(b.d_decays, length, h.d_log_f, h.ld_f);
  if (h.d_sink != nullptr) *h.d_sink = sink_gradient(b.lse, b.delta, length, h.sink);
}

}  // namespace braid
