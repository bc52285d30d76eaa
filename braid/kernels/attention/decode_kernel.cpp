#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/decode_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <limits>

#include "braid/base/error.h"
#include "braid/kernels/attention/decays.h"
#include "braid/kernels/attention/decode.h"
#include "braid/kernels/attention/decode_q8.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/simd/exp2_inl.h"
#include "braid/kernels/simd/load_lines.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

namespace hn = hwy::HWY_NAMESPACE;
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;

constexpr float kLog2E = 1.44269504088896341f;

// Both halves of attention are sums of weighted rows: of K^T [d, 64] by the channels of a query, of
// V [64, d] by the probabilities. Sources read such a tile as f32, whatever it is stored as.
struct F32Rows {
  const float* x;
  int64_t ld;
  V load(int64_t row, int64_t column) const { return hn::LoadU(D(), x + row * ld + column); }
  float at(int64_t row, int64_t column) const { return x[row * ld + column]; }
};

struct Bf16Rows {
  const uint16_t* x;
  int64_t ld;
  V load(int64_t row, int64_t column) const {
    const hn::RebindToUnsigned<D> du;
    const hn::Rebind<uint16_t, D> dh;
    const auto half = hn::LoadU(dh, x + row * ld + column);
    return hn::BitCast(D(), hn::ShiftLeft<16>(hn::PromoteTo(du, half)));
  }
  float at(int64_t row, int64_t column) const {
    return std::bit_cast<float>(static_cast<uint32_t>(x[row * ld + column]) << 16);
  }
};

// out[h][j] (+)= sum over the rows i in [begin, end) of w[h][i] * x[i][j] for kHeads rows of w and
// kVectors vectors of columns. Heads of a group share the loads of x. The pass that comes to x
// first loads whole rows in order.
template <int kHeads, int kVectors, class Source>
void weighted_rows(const float* HWY_RESTRICT w, int64_t ld_w, const Source& x, int64_t begin,
                   int64_t end, int64_t column, float* HWY_RESTRICT out, int64_t ld_out,
                   bool accumulate, bool first_pass) {
  const D d;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  const int64_t ahead = first_pass ? x.ld * static_cast<int64_t>(sizeof *x.x) : 0;
  V acc[kHeads][kVectors];
  for (int h = 0; h < kHeads; ++h) {
    for (int c = 0; c < kVectors; ++c) {
      acc[h][c] = accumulate ? hn::LoadU(d, out + h * ld_out + c * n) : hn::Zero(d);
    }
  }
  for (int64_t i = begin; i < end; ++i) {
    load_lines(x.x + i * x.ld, ahead);
    V row[kVectors];
    HWY_UNROLL(8)
    for (int c = 0; c < kVectors; ++c) row[c] = x.load(i, column + c * n);
    HWY_UNROLL(4)
    for (int h = 0; h < kHeads; ++h) {
      const V f = hn::Set(d, w[h * ld_w + i]);
      HWY_UNROLL(8)
      for (int c = 0; c < kVectors; ++c) acc[h][c] = hn::MulAdd(f, row[c], acc[h][c]);
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    for (int c = 0; c < kVectors; ++c) hn::StoreU(acc[h][c], d, out + h * ld_out + c * n);
  }
}

// The columns that are left when their number is not a multiple of four vectors.
template <class Source>
HWY_NOINLINE void weighted_rows_tail(const float* w, const Source& x, int64_t begin, int64_t end,
                                     int64_t column, int64_t columns, float* out, bool accumulate) {
  for (int64_t c = column; c < columns; ++c) {
    float s = accumulate ? out[c] : 0.0f;
    for (int64_t i = begin; i < end; ++i) s += w[i] * x.at(i, c);
    out[c] = s;
  }
}

// Weights of all heads of a group, and where their sums go.
struct Sums {
  int64_t heads;
  const float* w;
  int64_t ld_w;
  float* out;
  int64_t ld_out;
};

// Columns from `column` on in steps of kVectors vectors; returns where less than a step is left.
template <int kHeads, int kVectors, class Source>
int64_t weighted_columns(const Sums& s, int64_t head, const Source& x, int64_t begin, int64_t end,
                         int64_t column, int64_t columns, bool accumulate) {
  const int64_t step = kVectors * static_cast<int64_t>(hn::Lanes(D()));
  int64_t c = column;
  for (; c + step <= columns; c += step) {
    const bool first_pass = head == 0 && c == 0 && step < columns;
    weighted_rows<kHeads, kVectors>(s.w + head * s.ld_w, s.ld_w, x, begin, end, c,
                                    s.out + head * s.ld_out + c, s.ld_out, accumulate, first_pass);
  }
  return c;
}

// The heads from `head` on. Where registers allow, rows of 128 columns are one pass for two heads.
template <int kHeads, class Source>
void weighted_heads(const Sums& s, int64_t head, const Source& x, int64_t begin, int64_t end,
                    int64_t columns, bool accumulate) {
  int64_t c = 0;
  if constexpr (kHeads <= 2 && HWY_MAX_BYTES >= 64)
    c = weighted_columns<kHeads, 8>(s, head, x, begin, end, c, columns, accumulate);
  c = weighted_columns<kHeads, 4>(s, head, x, begin, end, c, columns, accumulate);
  for (int64_t h = head; h < head + kHeads && c < columns; ++h) {
    weighted_rows_tail(s.w + h * s.ld_w, x, begin, end, c, columns, s.out + h * s.ld_out,
                       accumulate);
  }
}

template <class Source>
void weighted_sum(const Sums& s, const Source& x, int64_t begin, int64_t end, int64_t columns,
                  bool accumulate) {
  for (int64_t h = 0; h < s.heads; h += 4) {
    const int64_t some = std::min<int64_t>(4, s.heads - h);
    const auto kernel = some == 4   ? weighted_heads<4, Source>
                        : some == 3 ? weighted_heads<3, Source>
                        : some == 2 ? weighted_heads<2, Source>
                                    : weighted_heads<1, Source>;
    kernel(s, h, x, begin, end, columns, accumulate);
  }
}

// scores [heads, 64] of one tile.
void tile_scores(const KvLayout& l, const std::byte* keys, const Sums& s) {
  if (l.type == KvType::kF32) {
    const F32Rows x{reinterpret_cast<const float*>(keys), kKvTile};
    weighted_sum(s, x, 0, l.d, kKvTile, false);
  } else if (l.type == KvType::kBF16) {
    const Bf16Rows x{reinterpret_cast<const uint16_t*>(keys), kKvTile};
    weighted_sum(s, x, 0, l.d, kKvTile, false);
  } else {
    q8_scores(l, keys, s.heads, s.w, s.out, s.ld_out);
  }
}

// out [heads, dv] (+)= values of positions [begin, end) of one tile by their weights.
void tile_values(const KvLayout& l, const std::byte* values, const Sums& s, int64_t begin,
                 int64_t end, bool accumulate) {
  if (l.type == KvType::kF32) {
    const F32Rows x{reinterpret_cast<const float*>(values), l.dv};
    weighted_sum(s, x, begin, end, l.dv, accumulate);
  } else if (l.type == KvType::kBF16) {
    const Bf16Rows x{reinterpret_cast<const uint16_t*>(values), l.dv};
    weighted_sum(s, x, begin, end, l.dv, accumulate);
  } else {
    q8_values(l, values, s.heads, s.w, s.ld_w, begin, end, s.out, s.ld_out, accumulate);
  }
}

// scores[0, count) become 2^(score - max); returns through max and sum.
void softmax(float* HWY_RESTRICT scores, int64_t count, float* max, float* sum) {
  const D d;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  V top = hn::LoadU(d, scores);
  for (int64_t i = n; i < count; i += n) top = hn::Max(top, hn::LoadU(d, scores + i));
  *max = hn::GetLane(hn::MaxOfLanes(d, top));
  const V base = hn::Set(d, *max);
  V total = hn::Zero(d);
  for (int64_t i = 0; i < count; i += n) {
    const V p = exp2_fast(d, hn::Sub(hn::LoadU(d, scores + i), base));
    hn::StoreU(p, d, scores + i);
    total = hn::Add(total, p);
  }
  *sum = hn::GetLane(hn::SumOfLanes(d, total));
}

// scores[h][j] of tile `tile` for the heads of a group; `queries` carry scale * log2 e.
void group_scores(const KvLayout& l, const std::byte* keys, int64_t group, const float* queries,
                  const float* taken_apart, float* scores, int64_t ld) {
  const bool q8 = l.type == KvType::kQ8;
  tile_scores(l, keys, Sums{group, q8 ? taken_apart : queries, l.d, scores, ld});
}

// queries [group, d] = q scaled; in q8 taken apart as well.
void scale_queries(const AttentionConfig& config, const KvLayout& l, const float* q, int64_t ld_q,
                   float* queries, float* taken_apart) {
  const int64_t d = config.head_dim;
  for (int64_t h = 0; h < config.group(); ++h) {
    for (int64_t i = 0; i < d; ++i) queries[h * d + i] = q[h * ld_q + i] * (config.scale * kLog2E);
    if (l.type == KvType::kQ8) q8_query(l, queries + h * d, taken_apart + h * q8_query_floats(l));
  }
}

// Scores of a tile's positions whose bits are not set become -inf.
void hide_unseen(uint64_t seen, float* scores) {
  if (seen == ~uint64_t{0}) return;
  for (int64_t i = 0; i < kKvTile; ++i) {
    if ((seen >> i & 1) == 0) scores[i] = -std::numeric_limits<float>::infinity();
  }
}

void decode_block(const AttentionConfig& config, int64_t kv_head, int64_t block, const float* q,
                  int64_t ld_q, const KvView& kv, float* partials, float* scratch) {
  const int64_t d = config.head_dim, dv = config.values(), group = config.group();
  const int64_t position = kv.length - 1, start = block * kDecodeBlock;
  // Seen are [0, kept) and [lo, hi) of the block; tiles between them may be gone.
  const int64_t hi = std::min(kv.length - start, kDecodeBlock);
  const int64_t kept = std::clamp<int64_t>(config.prefix - start, 0, hi);
  const int64_t lo = std::clamp<int64_t>(config.first_key(position) - start, kept, hi);
  const int64_t first_tile = kept > 0 ? 0 : lo / kKvTile, end_tile = (hi + kKvTile - 1) / kKvTile;
  const auto passed_over = [&](int64_t t) {
    return t * kKvTile >= kept && (t + 1) * kKvTile <= lo;
  };
  const int64_t base = block * kDecodeTiles;

  float* queries = scratch;
  float* scores = queries + group * d;
  float* taken_apart = scores + group * kDecodeBlock;  // q8 only
  scale_queries(config, kv.layout, q, ld_q, queries, taken_apart);
  for (int64_t t = first_tile; t < end_tile; ++t) {
    if (passed_over(t)) continue;
    group_scores(kv.layout, kv.keys(base + t, kv_head), group, queries, taken_apart,
                 scores + t * kKvTile, kDecodeBlock);
  }
  const int64_t stride = decode_partial_floats(dv);
  const int64_t from = first_tile * kKvTile, to = end_tile * kKvTile;
  for (int64_t h = 0; h < group; ++h) {
    float* s = scores + h * kDecodeBlock;
    if (config.softcap > 0) softcap_scores(s + from, to - from, config.softcap * kLog2E, nullptr);
    for (int64_t t = first_tile; kv.layout.decay_heads > 0 && t < end_tile; ++t) {
      if (passed_over(t)) continue;
      const int64_t head = kv_head * group + h;
      const double* own = kv.decays(position / kKvTile, head) + position % kKvTile;
      add_decay_differences(own, 1, kv.decays(base + t, head), 1.0f, s + t * kKvTile);
    }
    for (int64_t t = first_tile; kv.seen != nullptr && t < end_tile; ++t)
      hide_unseen(kv.seen[base + t], s + t * kKvTile);
    std::fill(s + std::max(from, kept), s + lo, -std::numeric_limits<float>::infinity());
    std::fill(s + hi, s + to, -std::numeric_limits<float>::infinity());
    softmax(s + from, to - from, partials + h * stride + dv, partials + h * stride + dv + 1);
  }
  for (int64_t t = first_tile; t < end_tile; ++t) {
    if (passed_over(t)) continue;
    const int64_t begin = t * kKvTile < kept ? 0 : std::max<int64_t>(lo - t * kKvTile, 0);
    const int64_t end = std::min(hi - t * kKvTile, kKvTile);
    const Sums sums{group, scores + t * kKvTile, kDecodeBlock, partials, stride};
    tile_values(kv.layout, kv.values(base + t, kv_head), sums, begin, end, t > first_tile);
  }
}

void probabilities(const AttentionConfig& config, int64_t kv_head, const float* q, int64_t ld_q,
                   const KvView& kv, float* HWY_RESTRICT sums, float* scratch) {
  const D d;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d)), group = config.group();
  const int64_t tiles = kv_tiles(kv.length), padded = tiles * kKvTile;
  float* queries = scratch;
  float* scores = queries + group * config.head_dim;
  float* taken_apart = scores + group * padded;
  scale_queries(config, kv.layout, q, ld_q, queries, taken_apart);
  for (int64_t t = 0; t < tiles; ++t) {
    group_scores(kv.layout, kv.keys(t, kv_head), group, queries, taken_apart, scores + t * kKvTile,
                 padded);
  }
  std::fill(sums, sums + padded, 0.0f);
  for (int64_t h = 0; h < group; ++h) {
    float* s = scores + h * padded;
    std::fill(s + kv.length, s + padded, -std::numeric_limits<float>::infinity());
    float max, sum;
    softmax(s, padded, &max, &sum);
    const V inverse = hn::Set(d, 1.0f / sum);
    for (int64_t i = 0; i < padded; i += n)
      hn::StoreU(hn::MulAdd(hn::LoadU(d, s + i), inverse, hn::LoadU(d, sums + i)), d, sums + i);
  }
}

void row_sums(KvType type, const std::byte* x, int64_t rows, int64_t columns, int64_t few,
              const float* w, int64_t ld_w, float* out, int64_t ld_out) {
  const Sums sums{few, w, ld_w, out, ld_out};
  if (type == KvType::kF32) {
    weighted_sum(sums, F32Rows{reinterpret_cast<const float*>(x), columns}, 0, rows, columns,
                 false);
  } else {
    weighted_sum(sums, Bf16Rows{reinterpret_cast<const uint16_t*>(x), columns}, 0, rows, columns,
                 false);
  }
}

void decode_merge(const float* sink, const float* partials, int64_t blocks, int64_t stride,
                  int64_t dim, float* HWY_RESTRICT out) {
  const D d;
  const int64_t n = static_cast<int64_t>(hn::Lanes(d));
  float top = partials[dim];
  for (int64_t b = 1; b < blocks; ++b) top = std::max(top, partials[b * stride + dim]);
  float total = 0.0f;
  if (sink != nullptr) {
    const float score = *sink * kLog2E;
    top = std::max(top, score);
    total = hn::GetLane(exp2_fast(d, hn::Set(d, score - top)));
  }
  std::fill(out, out + dim, 0.0f);
  for (int64_t b = 0; b < blocks; ++b) {
    const float* p = partials + b * stride;
    const float share = hn::GetLane(exp2_fast(d, hn::Set(d, p[dim] - top)));
    total += share * p[dim + 1];
    const V f = hn::Set(d, share);
    int64_t c = 0;
    for (; c + n <= dim; c += n)
      hn::StoreU(hn::MulAdd(f, hn::LoadU(d, p + c), hn::LoadU(d, out + c)), d, out + c);
    for (; c < dim; ++c) out[c] += share * p[c];
  }
  const float inverse = 1.0f / total;
  for (int64_t c = 0; c < dim; ++c) out[c] *= inverse;
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(decode_block);
HWY_EXPORT(decode_merge);
HWY_EXPORT(probabilities);
HWY_EXPORT(row_sums);

DecodeBlocks decode_blocks(const AttentionConfig& config, int64_t position) {
  const int64_t first = config.first_key(position) / kDecodeBlock;
  const int64_t kept = (config.prefix + kDecodeBlock - 1) / kDecodeBlock;
  return {std::min(kept, first), first, position / kDecodeBlock + 1};
}

void attention_decode_block(const AttentionConfig& config, int64_t kv_head, int64_t block,
                            const float* q, int64_t ld_q, const KvView& kv, float* partials,
                            float* scratch) {
  HWY_DYNAMIC_DISPATCH(decode_block)(config, kv_head, block, q, ld_q, kv, partials, scratch);
}

int64_t attention_probabilities_scratch(const AttentionConfig& config, int64_t length) {
  return config.group() * (kv_tiles(length) * kKvTile + 2 * config.head_dim + 8);
}

void attention_probabilities(const AttentionConfig& config, int64_t kv_head, const float* q,
                             int64_t ld_q, const KvView& kv, float* sums, float* scratch) {
  if (kv.length == 0) return;
  HWY_DYNAMIC_DISPATCH(probabilities)(config, kv_head, q, ld_q, kv, sums, scratch);
}

void weighted_row_sums(KvType type, const std::byte* x, int64_t rows, int64_t columns, int64_t few,
                       const float* w, int64_t ld_w, float* out, int64_t ld_out) {
  BRAID_DCHECK(type != KvType::kQ8);
  HWY_DYNAMIC_DISPATCH(row_sums)(type, x, rows, columns, few, w, ld_w, out, ld_out);
}

void attention_decode_merge(const AttentionConfig& config, int64_t head, const float* partials,
                            int64_t blocks, int64_t stride, float* out) {
  const float* sink = config.sinks == nullptr ? nullptr : config.sinks + head;
  HWY_DYNAMIC_DISPATCH(decode_merge)(sink, partials, blocks, stride, config.values(), out);
}

}  // namespace braid
#endif
