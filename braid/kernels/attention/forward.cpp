#include "braid/kernels/attention/forward.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "braid/base/error.h"
#include "braid/kernels/attention/decays.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/pack.h"
#include "braid/kernels/attention/softmax.h"
#include "braid/kernels/gemm/small.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
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
  return attention_carry_floats(config.values()) + kQueryTile * config.head_dim +
         kTilesPerStep * kScores +
         (type == KvType::kF32 ? 0 : kKvTile * std::max(config.head_dim, config.values()));
}

void attention_begin(const AttentionConfig& config, int64_t head, float* carry) {
  float* max = carry + kQueryTile * config.values();
  std::fill(carry, max, 0.0f);
  // A sink is a key that was met first and has no value.
  const bool sink = config.sinks != nullptr;
  std::fill(max, max + kQueryTile,
            sink ? config.sinks[head] * kLog2E : -std::numeric_limits<float>::infinity());
  std::fill(max + kQueryTile, max + 2 * kQueryTile, sink ? 1.0f : 0.0f);
}

void attention_piece(const AttentionConfig& config, int64_t head, const float* q, int64_t ld_q,
                     int64_t rows, int64_t position, const KvView& kv, int64_t first_tile,
                     int64_t end_tile, float* carry, float* scratch) {
  const int64_t d = config.head_dim, dv = config.values();
  float* queries = scratch;
  float* scores = queries + kQueryTile * d;
  float* unpacked = scores + kTilesPerStep * kScores;
  float* acc = carry;
  float* max = acc + kQueryTile * dv;
  float* sum = max + kQueryTile;
  const bool plain = kv.layout.type == KvType::kF32;

  // Whole groups of 8 rows keep the number of just-in-time kernels small; the rows added are zero.
  const int64_t padded = (rows + 7) / 8 * 8;
  const SmallGemm score(padded, kKvTile, d, d, kKvTile, kKvTile, false);
  const SmallGemm gather(padded, dv, kKvTile, kKvTile, dv, dv, true);
  pack_rows(q, ld_q, rows, d, config.scale * kLog2E, queries);
  std::fill(queries + rows * d, queries + padded * d, 0.0f);

  const int64_t last = position + rows - 1;
  BRAID_DCHECK(std::min(last, end_tile * kKvTile - 1) < kv.length);
  const int64_t begin = std::max(first_tile, config.first_key(position) / kKvTile);
  const int64_t end = std::min(end_tile, last / kKvTile + 1);
  BRAID_DCHECK(begin >= kv.first_tile());
  const int64_t kv_head = head / config.group();
  const bool forgets = kv.layout.decay_heads > 0;
  double decays[kQueryTile];  // of the queries
  for (int64_t r = 0; forgets && r < rows; ++r) {
    decays[r] = kv.decays((position + r) / kKvTile, head)[(position + r) % kKvTile];
  }
  for (int64_t from = begin; from < end;) {
    // A maximum and a rescale per 256 keys, aligned to absolute position.
    const int64_t to = std::min(end, (from / kTilesPerStep + 1) * kTilesPerStep);
    for (int64_t t = from; t < to; ++t) {
      float* s = scores + (t - from) * kScores;
      const std::byte* keys = kv.keys(t, kv_head);
      if (!plain) unpack_keys(kv.layout, keys, unpacked);
      score(queries, plain ? reinterpret_cast<const float*>(keys) : unpacked, s);
      if (config.softcap > 0) softcap_scores(s, padded * kKvTile, config.softcap * kLog2E, nullptr);
      if (forgets) add_decay_differences(decays, rows, kv.decays(t, head), 1.0f, s);
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
}

void attention_finish(const AttentionConfig& config, const float* carry, int64_t rows, float* out,
                      int64_t ld_out, float* lse) {
  const int64_t dv = config.values();
  const float* max = carry + kQueryTile * dv;
  finish_softmax(carry, max, max + kQueryTile, rows, dv, out, ld_out, lse);
}

void attention_forward_tile(const AttentionConfig& config, int64_t head, const float* q,
                            int64_t ld_q, int64_t rows, int64_t position, const KvView& kv,
                            float* out, int64_t ld_out, float* lse, float* scratch) {
  float* rest = scratch + attention_carry_floats(config.values());
  attention_begin(config, head, scratch);
  attention_piece(config, head, q, ld_q, rows, position, kv, kv.first_tile(), kv_tiles(kv.length),
                  scratch, rest);
  attention_finish(config, scratch, rows, out, ld_out, lse);
}

}  // namespace braid
