#include "braid/kernels/attention/chosen.h"

#include <algorithm>
#include <limits>

#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/pack.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/gemm/small.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr float kLn2 = 0.693147180559945309f;
constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr int64_t kTile = kKvTile;
constexpr int64_t kScores = kTile * kTile;
constexpr int64_t kTilesPerStep = 4;

// scores[rows, 64] of keys that a row does not attend to become -inf.
void hide(const uint64_t* seen, int64_t rows, float* scores) {
  for (int64_t r = 0; r < rows; ++r, scores += kTile) {
    if (seen[r] == ~uint64_t{0}) continue;
    for (int64_t c = 0; c < kTile; ++c) {
      if ((seen[r] >> c & 1) == 0) scores[c] = -kInfinity;
    }
  }
}

// The same of two matrices [keys, queries], to zero.
void drop(const uint64_t* seen, float* a, float* b) {
  uint64_t all = ~uint64_t{0};
  for (int64_t c = 0; c < kTile; ++c) all &= seen[c];
  for (int64_t r = 0; r < kTile && all != ~uint64_t{0}; ++r) {
    for (int64_t c = 0; c < kTile; ++c) {
      if ((seen[c] >> r & 1) == 0) a[r * kTile + c] = b[r * kTile + c] = 0;
    }
  }
}

// Rows and columns of a tile; what lies past its end is zero.
void pack_tile(const float* from, int64_t ld, int64_t rows, int64_t d, float scale, float* as_rows,
               float* as_columns) {
  pack_rows(from, ld, rows, d, scale, as_rows);
  std::fill(as_rows + rows * d, as_rows + kTile * d, 0.0f);
  if (as_columns != nullptr) pack_columns(as_rows, d, kTile, d, 0, as_columns);
}

// What one tile of queries of one head needs on the way back.
struct QueryTile {
  QueryTile(float* scratch, int64_t d, int64_t dv) {
    for (float** m : {&q, &qt, &dqt}) *m = scratch, scratch += kTile * d;
    for (float** m : {&g, &gt}) *m = scratch, scratch += kTile * dv;
    for (float** m : {&lse, &delta}) *m = scratch, scratch += kTile;
    for (float** m : {&scores, &d_p}) *m = scratch, scratch += kScores;
  }
  static int64_t floats(int64_t d, int64_t dv) {
    return kTile * (3 * d + 2 * dv + 2) + 2 * kScores;
  }
  float *q, *qt, *dqt;  // q as rows and columns, its gradient as columns
  float *g, *gt;        // d_out as rows and columns
  float *lse, *delta;
  float *scores, *d_p;
};

void pack_queries(const AttentionConfig& config, const ChosenHead& h, int64_t first, int64_t rows,
                  const QueryTile& t) {
  const int64_t d = config.head_dim, dv = config.values();
  pack_tile(h.q + first * h.ld_q, h.ld_q, rows, d, config.scale * kLog2E, t.q, t.qt);
  pack_tile(h.d_out + first * h.ld_out, h.ld_out, rows, dv, 1.0f, t.g, t.gt);
  row_dots(h.out + first * h.ld_out, h.d_out + first * h.ld_out, h.ld_out, rows, dv, t.delta);
  std::fill(t.delta + rows, t.delta + kTile, 0.0f);
  std::copy_n(h.lse + first, rows, t.lse);
  std::fill(t.lse + rows, t.lse + kTile, kInfinity);
  std::fill(t.dqt, t.dqt + kTile * d, 0.0f);
}

}  // namespace

int64_t chosen_forward_scratch(const AttentionConfig& config, KvType type) {
  return kTile * (config.head_dim + config.values() + 2) + kTilesPerStep * kScores +
         (type == KvType::kF32 ? 0 : kTile * std::max(config.head_dim, config.values()));
}

void chosen_forward_tile(const AttentionConfig& config, int64_t kv_head, const float* q,
                         int64_t ld_q, int64_t rows, const KvView& kv, const ChosenKeys& keys,
                         float* out, int64_t ld_out, float* lse, float* scratch) {
  const int64_t d = config.head_dim, dv = config.values();
  float* queries = scratch;
  float* acc = queries + kTile * d;
  float* max = acc + kTile * dv;
  float* sum = max + kTile;
  float* scores = sum + kTile;
  float* unpacked = scores + kTilesPerStep * kScores;
  const bool plain = kv.layout.type == KvType::kF32;
  // Whole groups of 8 rows keep the number of just-in-time kernels small; the rows added are zero.
  const int64_t padded = (rows + 7) / 8 * 8;
  const SmallGemm score(padded, kTile, d, d, kTile, kTile, false);
  const SmallGemm gather(padded, dv, kTile, kTile, dv, dv, true);
  pack_tile(q, ld_q, rows, d, config.scale * kLog2E, queries, nullptr);
  std::fill(acc, acc + kTile * dv, 0.0f);
  std::fill(max, max + kTile, -kInfinity);
  std::fill(sum, sum + kTile, 0.0f);
  for (int64_t from = 0; from < keys.count; from += kTilesPerStep) {
    const int64_t some = std::min(kTilesPerStep, keys.count - from);
    for (int64_t i = 0; i < some; ++i) {
      float* s = scores + i * kScores;
      const std::byte* stored = kv.keys(keys.tiles[from + i], kv_head);
      if (!plain) unpack_keys(kv.layout, stored, unpacked);
      score(queries, plain ? reinterpret_cast<const float*>(stored) : unpacked, s);
      hide(keys.seen + (from + i) * kTile, rows, s);
    }
    online_softmax(scores, some, rows, max, sum, acc, dv);
    for (int64_t i = 0; i < some; ++i) {
      const std::byte* stored = kv.values(keys.tiles[from + i], kv_head);
      if (!plain) unpack_values(kv.layout, stored, unpacked);
      gather(scores + i * kScores, plain ? reinterpret_cast<const float*>(stored) : unpacked, acc);
    }
  }
  finish_softmax(acc, max, sum, rows, dv, out, ld_out, lse);
  for (int64_t r = 0; r < rows && lse != nullptr; ++r) {
    if (sum[r] == 0) lse[r] = kInfinity;
  }
}

int64_t chosen_backward_scratch(const AttentionConfig& config, int64_t keys) {
  const int64_t d = config.head_dim, dv = config.values();
  return kv_tiles(keys) * kTile * (3 * d + 2 * dv) + QueryTile::floats(d, dv);
}

void chosen_backward(const AttentionConfig& config, int64_t length, int64_t count, const float* k,
                     int64_t ld_k, const float* v, int64_t ld_v, const ChosenHead* heads,
                     const ChosenKeys* lists, float* d_k, float* d_v, float* scratch) {
  const int64_t d = config.head_dim, dv = config.values(), padded = kv_tiles(count) * kTile;
  float *key_rows = scratch, *key_columns = key_rows + padded * d,
        *value_rows = key_columns + padded * d, *sum_k = value_rows + padded * dv,
        *sum_v = sum_k + padded * d;
  const QueryTile t(sum_v + padded * dv, d, dv);
  for (int64_t at = 0; at < count; at += kTile) {
    const int64_t rows = std::min(kTile, count - at);
    pack_tile(k + at * ld_k, ld_k, rows, d, 1.0f, key_rows + at * d, key_columns + at * d);
    pack_tile(v + at * ld_v, ld_v, rows, dv, 1.0f, value_rows + at * dv, nullptr);
  }
  std::fill(sum_k, sum_k + padded * (d + dv), 0.0f);
  // Everything is transposed [keys, queries], as in backward.cpp.
  const SmallGemm to_scores(kTile, kTile, d, d, kTile, kTile, false);
  const SmallGemm to_d_p(kTile, kTile, dv, dv, kTile, kTile, false);
  const SmallGemm to_d_k(kTile, d, kTile, kTile, d, d, true);
  const SmallGemm to_d_v(kTile, dv, kTile, kTile, dv, dv, true);
  const SmallGemm to_columns(d, kTile, kTile, kTile, kTile, kTile, true);
  const AttentionConfig all;  // every query after every key
  const int64_t group = config.group();
  for (int64_t i = 0; i < kv_tiles(length); ++i) {
    const int64_t first = i * kTile, rows = std::min(kTile, length - first);
    for (int64_t h = 0; h < group; ++h) {
      const ChosenKeys& keys = lists[i * group + h];
      pack_queries(config, heads[h], first, rows, t);
      for (int64_t n = 0; n < keys.count; ++n) {
        const int64_t key = keys.tiles[n] * kTile;
        to_scores(key_rows + key * d, t.qt, t.scores);
        to_d_p(value_rows + key * dv, t.gt, t.d_p);
        softmax_backward_tile(all, 0, kTile, t.lse, t.delta, nullptr, t.scores, t.d_p);
        drop(keys.seen + n * kTile, t.scores, t.d_p);
        to_d_v(t.scores, t.g, sum_v + key * dv);
        to_d_k(t.d_p, t.q, sum_k + key * d);
        to_columns(key_columns + key * d, t.d_p, t.dqt);
      }
      unpack_columns(t.dqt, rows, d, config.scale, heads[h].d_q + first * heads[h].ld_q,
                     heads[h].ld_q);
    }
  }
  for (int64_t r = 0; r < count; ++r) {
    pack_rows(sum_k + r * d, d, 1, d, kLn2, d_k + r * ld_k);  // q carries scale * log2 e
    pack_rows(sum_v + r * dv, dv, 1, dv, 1.0f, d_v + r * ld_v);
  }
}

}  // namespace braid
