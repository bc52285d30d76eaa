#include "braid/kernels/attention/backward.h"

#include <algorithm>
#include <limits>

#include "braid/kernels/attention/pack.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/gemm/small.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;
constexpr int64_t kTile = kKvTile;
constexpr int64_t kPerTile = 8;  // matrices [64, d] kept per tile of the sequence

// Rows past the end of the sequence are zero, so products with them are too.
void pack_padded(const float* from, int64_t ld, int64_t rows, int64_t d, float scale, float* to) {
  pack_rows(from, ld, rows, d, scale, to);
  std::fill(to + rows * d, to + kTile * d, 0.0f);
}

void pack_columns_padded(const float* from, int64_t ld, int64_t rows, int64_t d, float* to) {
  if (rows < kTile) std::fill(to, to + kTile * d, 0.0f);
  pack_columns(from, ld, rows, d, 0, to);
}

// The scratch of one head: matrices [tiles][64 * d], then vectors [tiles][64], then what one pair
// of tiles needs.
struct Buffers {
  Buffers(float* scratch, int64_t tiles, int64_t d) {
    const int64_t matrix = tiles * kTile * d;
    float** matrices[kPerTile] = {&q, &qt, &g, &gt, &k, &kt, &v, &dqt};
    for (float** m : matrices) {
      *m = scratch;
      scratch += matrix;
    }
    lse = scratch;
    delta = lse + tiles * kTile;
    scores = delta + tiles * kTile;
    d_p = scores + kTile * kTile;
    d_k = d_p + kTile * kTile;
    d_v = d_k + kTile * d;
  }
  float *q, *qt, *g, *gt, *k, *kt, *v,
      *dqt;  // q, d_out = g, k, v as rows; qt, gt, kt as columns [d, 64]
  float *lse, *delta;
  float *scores, *d_p, *d_k, *d_v;
};

void pack_tile(const AttentionConfig& config, const AttentionHead& h, int64_t tile, int64_t rows,
               Buffers& b) {
  const int64_t d = config.head_dim, first = tile * kTile, at = tile * kTile * d;
  const float scale = config.scale * kLog2E;
  pack_padded(h.q + first * h.ld_q, h.ld_q, rows, d, scale, b.q + at);
  pack_columns_padded(b.q + at, d, kTile, d, b.qt + at);
  pack_padded(h.d_out + first * h.ld_out, h.ld_out, rows, d, 1.0f, b.g + at);
  pack_columns_padded(b.g + at, d, kTile, d, b.gt + at);
  pack_padded(h.k + first * h.ld_k, h.ld_k, rows, d, 1.0f, b.k + at);
  pack_columns_padded(b.k + at, d, kTile, d, b.kt + at);
  pack_padded(h.v + first * h.ld_v, h.ld_v, rows, d, 1.0f, b.v + at);
  std::fill(b.dqt + at, b.dqt + at + kTile * d, 0.0f);
  row_dots(h.out + first * h.ld_out, h.d_out + first * h.ld_out, h.ld_out, rows, d,
           b.delta + first);
  std::copy(h.lse + first, h.lse + first + rows, b.lse + first);
  std::fill(b.delta + first + rows, b.delta + first + kTile, 0.0f);
  // An infinite denominator makes every probability of a row that does not exist zero.
  std::fill(b.lse + first + rows, b.lse + first + kTile, std::numeric_limits<float>::infinity());
}

}  // namespace

int64_t attention_backward_scratch(int64_t length, int64_t head_dim) {
  const int64_t tiles = kv_tiles(length);
  return tiles * kTile * (kPerTile * head_dim + 2) + 2 * kTile * kTile + 2 * kTile * head_dim;
}

void attention_backward_head(const AttentionConfig& config, int64_t length, const AttentionHead& h,
                             float* scratch) {
  const int64_t d = config.head_dim, tiles = kv_tiles(length);
  Buffers b(scratch, tiles, d);
  const auto rows_of = [&](int64_t tile) { return std::min(kTile, length - tile * kTile); };
  for (int64_t t = 0; t < tiles; ++t) pack_tile(config, h, t, rows_of(t), b);

  // Everything is transposed [keys, queries], so that no product needs a transposed operand made
  // inside the loop.
  const SmallGemm to_square(kTile, kTile, d, d, kTile, kTile, false);
  const SmallGemm to_rows(kTile, d, kTile, kTile, d, d, true);
  const SmallGemm to_columns(d, kTile, kTile, kTile, kTile, kTile, true);
  const int64_t reach = config.window > 0 ? config.window : tiles * kTile;
  for (int64_t j = 0; j < tiles; ++j) {
    const int64_t keys = j * kTile * d;
    std::fill(b.d_k, b.d_k + 2 * kTile * d, 0.0f);
    const int64_t end = std::min(tiles, (j * kTile + kTile - 1 + reach - 1) / kTile + 1);
    for (int64_t i = j; i < end; ++i) {
      const int64_t queries = i * kTile * d;
      to_square(b.k + keys, b.qt + queries, b.scores);
      to_square(b.v + keys, b.gt + queries, b.d_p);
      const int64_t low = (j - i) * kTile;
      softmax_backward_tile(b.scores, b.d_p, b.lse + i * kTile, b.delta + i * kTile, low,
                            low + reach);
      to_rows(b.scores, b.g + queries, b.d_v);
      to_rows(b.d_p, b.q + queries, b.d_k);
      to_columns(b.kt + keys, b.d_p, b.dqt + queries);
    }
    const int64_t rows = rows_of(j);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t at = (j * kTile + r) * h.ld_dkv;
      pack_rows(b.d_k + r * d, d, 1, d, kLn2, h.d_k + at);  // q carries scale * log2 e
      pack_rows(b.d_v + r * d, d, 1, d, 1.0f, h.d_v + at);
    }
  }
  for (int64_t i = 0; i < tiles; ++i) {
    unpack_columns(b.dqt + i * kTile * d, rows_of(i), d, config.scale, h.d_q + i * kTile * h.ld_dq,
                   h.ld_dq);
  }
}

}  // namespace braid
