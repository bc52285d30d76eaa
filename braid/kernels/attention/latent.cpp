#include "braid/kernels/attention/latent.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/pack.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/gemm/gemm.h"
#include "braid/kernels/gemm/small.h"

namespace braid {
namespace {

constexpr int64_t kTile = kKvTile;
constexpr int64_t kScores = kLatentRows * kTile;
constexpr int64_t kTilesPerStep = 4;
constexpr int64_t kShared = 32;  // numbers that share a scale

// Calls body(first, count, index of the scale) for every group of a row.
template <typename F>
void for_groups(const LatentLayout& l, F body) {
  int64_t scale = 0;
  for (const auto& [begin, end] : {std::pair{int64_t{0}, l.rank}, std::pair{l.rank, l.width()}}) {
    for (int64_t i = begin; i < end; i += kShared) body(i, std::min(kShared, end - i), scale++);
  }
}

}  // namespace

void pack_latent(const LatentLayout& l, const float* c, const float* k, std::byte* row) {
  if (l.type == KvType::kF32) {
    auto* to = reinterpret_cast<float*>(row);
    std::copy(c, c + l.rank, to);
    std::copy(k, k + l.rope, to + l.rank);
  } else if (l.type == KvType::kBF16) {
    auto* to = reinterpret_cast<uint16_t*>(row);
    narrow_to_bf16(c, l.rank, to);
    narrow_to_bf16(k, l.rope, to + l.rank);
  } else {
    auto* scales = reinterpret_cast<float*>(row);
    auto* codes = reinterpret_cast<uint8_t*>(row + 4 * l.scales());
    int8_t some[kShared];
    for_groups(l, [&](int64_t first, int64_t count, int64_t scale) {
      const float* x = first < l.rank ? c + first : k + first - l.rank;
      scales[scale] = quantize_q8(x, count, some);
      for (int64_t i = 0; i < count; ++i) codes[first + i] = static_cast<uint8_t>(some[i] + 128);
    });
  }
}

void unpack_latents(const LatentLayout& l, const std::byte* from, int64_t rows, float* to) {
  if (l.type == KvType::kF32) {
    std::memcpy(to, from, static_cast<size_t>(rows * l.row()));
    return;
  }
  for (int64_t r = 0; r < rows; ++r, from += l.row(), to += l.width()) {
    if (l.type == KvType::kBF16) {
      widen_bf16(reinterpret_cast<const uint16_t*>(from), l.width(), to);
      continue;
    }
    const auto* scales = reinterpret_cast<const float*>(from);
    const auto* codes = reinterpret_cast<const uint8_t*>(from + 4 * l.scales());
    for_groups(l, [&](int64_t first, int64_t count, int64_t scale) {
      for (int64_t i = first; i < first + count; ++i)
        to[i] = static_cast<float>(static_cast<int>(codes[i]) - 128) * scales[scale];
    });
  }
}

int64_t latent_block_scratch(const LatentView& view) {
  const LatentLayout& l = view.layout;
  const bool in_place = l.type == KvType::kF32 && view.chosen == nullptr;
  return l.width() * kLatentRows + kTile * kLatentRows + kTilesPerStep * kScores + 2 * kLatentRows +
         kLatentRows * l.rank + (in_place ? 0 : kTilesPerStep * kTile * l.width());
}

namespace {

void fetch(const std::byte* row, int64_t bytes) {
  constexpr int64_t kLine = 64;
  for (int64_t i = 0; i < bytes; i += kLine) __builtin_prefetch(row + i, 0, 3);
}

// Rows [from, from + rows) of the view as f32 [rows, width]: where they are kept, or in `to`. Rows
// past the end are numbers.
const float* rows_of(const LatentView& view, int64_t from, int64_t rows, float* to) {
  const LatentLayout& l = view.layout;
  if (view.chosen == nullptr) {
    if (l.type == KvType::kF32) return reinterpret_cast<const float*>(view.row(from));
    unpack_latents(l, view.row(from), rows, to);
    return to;
  }
  constexpr int64_t kAhead = 2;  // chosen rows lie anywhere
  const int64_t some = std::min(rows, view.length - from), w = l.width();
  for (int64_t i = 0; i < some; ++i) {
    if (i + kAhead < some) fetch(view.row(view.chosen[from + i + kAhead]), l.row());
    unpack_latents(l, view.row(view.chosen[from + i]), 1, to + i * w);
  }
  std::fill(to + some * w, to + rows * w, 0.0f);
  return to;
}

}  // namespace

void latent_attention_block(const LatentView& view, const float* queries, int64_t rows,
                            int64_t position, int64_t first_row, int64_t heads, int64_t block,
                            float* partials, float* scratch) {
  const LatentLayout& l = view.layout;
  const int64_t w = l.width(), stride = latent_partial_floats(l.rank);
  // Whole groups of 8 rows keep the number of just-in-time kernels small; the rows added are zero.
  const int64_t padded = (rows + 7) / 8 * 8;
  float* turned = scratch;  // [w, padded]
  float* scores_t = turned + w * kLatentRows;
  float* scores = scores_t + kTile * kLatentRows;
  float* max = scores + kTilesPerStep * kScores;
  float* sum = max + kLatentRows;
  float* acc = sum + kLatentRows;
  float* unpacked = acc + kLatentRows * l.rank;
  turn_rows(queries, w, rows, w, turned, padded);
  for (int64_t c = 0; c < w && padded > rows; ++c)
    std::fill(turned + c * padded + rows, turned + (c + 1) * padded, 0.0f);
  // Row by row [64, w] x [w, padded], then turned: latents need not be kept transposed.
  const SmallGemm score(kTile, padded, w, w, padded, padded, false);
  const SmallGemm gather(padded, l.rank, kTile, kTile, w, l.rank, true);
  std::fill(acc, acc + padded * l.rank, 0.0f);
  std::fill(max, max + rows, -std::numeric_limits<float>::infinity());
  std::fill(sum, sum + rows, 0.0f);

  const auto sees = [&](int64_t r) { return position + (first_row + r) / heads; };
  const int64_t begin = block * kLatentBlock;
  const int64_t end = std::min(begin + kLatentBlock, sees(rows - 1) + 1);
  for (int64_t from = begin; from < end; from += kTilesPerStep * kTile) {
    const int64_t to = std::min(end, from + kTilesPerStep * kTile);
    const int64_t tiles = (to - from + kTile - 1) / kTile;
    const float* latents = rows_of(view, from, tiles * kTile, unpacked);
    for (int64_t t = 0; t < tiles; ++t) {
      float* s = scores + t * kScores;
      score(latents + t * kTile * w, turned, scores_t);
      turn_rows(scores_t, padded, kTile, padded, s, kTile);
      const int64_t key = from + t * kTile;
      for (int64_t r = 0; r < rows && key + kTile - 1 > position; ++r) {
        const int64_t seen = std::clamp<int64_t>(sees(r) + 1 - key, 0, kTile);
        std::fill(s + r * kTile + seen, s + (r + 1) * kTile,
                  -std::numeric_limits<float>::infinity());
      }
    }
    online_softmax(scores, tiles, rows, max, sum, acc, l.rank);
    for (int64_t t = 0; t < tiles; ++t) gather(scores + t * kScores, latents + t * kTile * w, acc);
  }
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(acc + r * l.rank, l.rank, partials + r * stride);
    partials[r * stride + l.rank] = max[r];
    partials[r * stride + l.rank + 1] = sum[r];
  }
}

}  // namespace braid
