#include "braid/kernels/attention/forward.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/base/error.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/pack.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/gemm/small.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
// Tiles of keys per step of the online softmax, aligned to absolute position: a maximum and a
// rescale per 256 keys.
constexpr int64_t kTilesPerStep = 4;
constexpr int64_t kScores = kQueryTile * kKvTile;

// Sets scores outside the causal window to -inf. scores[rows, 64]; row r is position + r, column c
// is key + c.
void mask_tile(const AttentionConfig& config, int64_t position, int64_t rows, int64_t key,
               float* scores) {
  const bool future = key + kKvTile - 1 > position;
  const bool gone = key < config.first_key(position + rows - 1);
  if (!future && !gone) return;
  constexpr float kMasked = -std::numeric_limits<float>::infinity();
  for (int64_t r = 0; r < rows; ++r, scores += kKvTile) {
    const int64_t end = std::clamp<int64_t>(position + r + 1 - key, 0, kKvTile);
    const int64_t begin = std::clamp<int64_t>(config.first_key(position + r) - key, 0, end);
    std::fill(scores, scores + begin, kMasked);
    std::fill(scores + end, scores + kKvTile, kMasked);
  }
}

}  // namespace

int64_t attention_forward_scratch(const AttentionConfig& config, KvType type) {
  const int64_t channels = config.head_dim + config.values();
  return kQueryTile * channels + kTilesPerStep * kScores + 2 * kQueryTile +
         (type == KvType::kF32 ? 0 : kKvTile * std::max(config.head_dim, config.values()));
}

void attention_forward_tile(const AttentionConfig& config, int64_t head, const float* q,
                            int64_t ld_q, int64_t rows, int64_t position, const KvView& kv,
                            float* out, int64_t ld_out, float* lse, float* scratch) {
  const int64_t d = config.head_dim, dv = config.values();
  float* queries = scratch;
  float* acc = queries + kQueryTile * d;
  float* scores = acc + kQueryTile * dv;
  float* max = scores + kTilesPerStep * kScores;
  float* sum = max + kQueryTile;
  float* unpacked = sum + kQueryTile;
  const bool plain = kv.layout.type == KvType::kF32;

  // Whole groups of 8 rows keep the number of just-in-time kernels small; the rows added are zero.
  const int64_t padded = (rows + 7) / 8 * 8;
  const SmallGemm score(padded, kKvTile, d, d, kKvTile, kKvTile, false);
  const SmallGemm gather(padded, dv, kKvTile, kKvTile, dv, dv, true);
  pack_rows(q, ld_q, rows, d, config.scale * kLog2E, queries);
  std::fill(queries + rows * d, queries + padded * d, 0.0f);
  std::fill(acc, acc + padded * dv, 0.0f);
  // A sink is a key that was met first and has no value.
  const bool sink = config.sinks != nullptr;
  std::fill(max, max + rows,
            sink ? config.sinks[head] * kLog2E : -std::numeric_limits<float>::infinity());
  std::fill(sum, sum + rows, sink ? 1.0f : 0.0f);

  const int64_t last = position + rows - 1;
  BRAID_DCHECK(last < kv.length);
  const int64_t begin = config.first_key(position) / kKvTile, end = last / kKvTile + 1;
  BRAID_DCHECK(begin >= kv.first_tile());
  const int64_t kv_head = head / config.group();
  for (int64_t from = begin; from < end;) {
    const int64_t to = std::min(end, (from / kTilesPerStep + 1) * kTilesPerStep);
    for (int64_t t = from; t < to; ++t) {
      float* s = scores + (t - from) * kScores;
      const std::byte* keys = kv.keys(t, kv_head);
      if (!plain) unpack_keys(kv.layout, keys, unpacked);
      score(queries, plain ? reinterpret_cast<const float*>(keys) : unpacked, s);
      if (config.softcap > 0) softcap_scores(s, padded * kKvTile, config.softcap * kLog2E, nullptr);
      mask_tile(config, position, rows, t * kKvTile, s);
    }
    online_softmax(scores, to - from, rows, max, sum, acc, dv);
    for (int64_t t = from; t < to; ++t) {
      const std::byte* values = kv.values(t, kv_head);
      if (!plain) unpack_values(kv.layout, values, unpacked);
      gather(scores + (t - from) * kScores,
             plain ? reinterpret_cast<const float*>(values) : unpacked, acc);
    }
    from = to;
  }
  finish_softmax(acc, max, sum, rows, dv, out, ld_out, lse);
}

}  // namespace braid
