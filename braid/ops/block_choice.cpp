#include "braid/ops/block_choice.h"

#include <algorithm>
#include <numeric>
#include <span>

#include "braid/core/parallel.h"
#include "braid/kernels/attention/decode.h"
#include "braid/kernels/attention/selected.h"
#include "braid/ops/scratch_slots.h"

namespace braid {
namespace {

// Calls body(i) for [0, n), on a dry context too: the lengths of what is chosen are those of a run.
template <typename F>
void for_lists(const Context& ctx, int64_t n, const F& body) {
  const auto range = [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) body(i);
  };
  if (ctx.dry()) {
    range(0, n);
  } else {
    parallel_for(ctx, n, 4, range);
  }
}

// importance[j] of the first `count` blocks of `block` positions, from the probabilities of the
// compressed ones: strides [j, j + 1) * block / stride each take the probabilities of all that
// cover them. In double: two blocks share what covers both, which where it is nearly all of either
// would hide in f32 what the rest differs by.
void share_out(std::span<const float> p, KvBlocks blocks, int64_t block,
               std::span<double> importance) {
  const int64_t seen = std::ssize(p), covers = blocks.block / blocks.stride,
                strides = block / blocks.stride;
  for (int64_t j = 0; j < std::ssize(importance); ++j) {
    double sum = 0;
    for (int64_t s = j * strides; s < (j + 1) * strides; ++s) {
      const int64_t end = std::min(seen, s + 1);
      for (int64_t i = std::max<int64_t>(0, s - covers + 1); i < end; ++i)
        sum += p[static_cast<size_t>(i)];
    }
    importance[static_cast<size_t>(j)] = sum;
  }
}

}  // namespace

std::vector<Chosen> choose_similar_blocks(const Context& ctx, const Tensor& q, int64_t first,
                                          const LatentView& means, int64_t kv_heads, int64_t block,
                                          int64_t top) {
  const int64_t heads = q.size(1), d = q.size(2), n = q.size(0);
  BRAID_CHECK(q.contiguous() && means.layout.type == KvType::kF32);
  BRAID_CHECK(means.layout.width() == kv_heads * d && (first + n - 1) / block <= means.length);
  double seen = 0;
  for (int64_t t = 0; t < n; ++t) {
    const int64_t own = (first + t) / block;
    seen += own < top ? 0 : static_cast<double>(own);
  }
  ctx.count_product(2.0 * seen * static_cast<double>(heads * d));
  std::vector<Chosen> chosen(static_cast<size_t>(n * heads));
  for_lists(ctx, n * heads, [&](int64_t i) {
    const int64_t own = (first + i / heads) / block, kv = i % heads / (heads / kv_heads);
    Chosen& list = chosen[static_cast<size_t>(i)];
    if (ctx.dry() || own < top) {  // nothing to choose, or nothing to choose by
      list.resize(static_cast<size_t>(std::min(own, top - 1)));
      std::iota(list.begin(), list.end(), 0);
    } else {
      std::vector<float> scores(static_cast<size_t>(own));
      for (int64_t b = 0; b < own; ++b) {
        const auto* mean = reinterpret_cast<const float*>(means.row(b));
        scores[static_cast<size_t>(b)] = dot_f32(q.data() + i * d, mean + kv * d, d);
      }
      list = largest(scores, top - 1);
    }
    list.push_back(static_cast<int32_t>(own));
  });
  return chosen;
}

std::vector<Chosen> choose_important_blocks(const Context& ctx, const AttentionConfig& config,
                                            const Tensor& q, int64_t first,
                                            const KvView& compressed, KvBlocks blocks,
                                            int64_t block, int64_t top) {
  const int64_t n = q.size(0), d = config.head_dim, group = config.group();
  BRAID_CHECK(q.contiguous() && q.size(1) == config.heads && top >= kAlwaysChosen);
  BRAID_CHECK(blocks.block % blocks.stride == 0 && block % blocks.stride == 0 &&
              blocks.block <= block && blocks.whole(first + n) <= compressed.length);
  // Of the blocks between the first and the last two: how many there are, how many are taken.
  const auto middle = [&](int64_t position) { return std::max<int64_t>(0, position / block - 2); };
  const auto taken = [&](int64_t position) {
    return std::min(middle(position), top - kAlwaysChosen);
  };
  double pairs = 0;
  for (int64_t p = first; p < first + n; ++p)
    pairs += taken(p) < middle(p) ? static_cast<double>(blocks.whole(p + 1)) : 0;
  ctx.count_product(2.0 * pairs * static_cast<double>(config.heads * d));
  const int64_t most = kv_tiles(blocks.whole(first + n)) * kKvTile;
  std::vector<Chosen> chosen(static_cast<size_t>(n * config.kv_heads));
  ScratchSlots scratch(ctx, std::ssize(chosen),
                       most + attention_probabilities_scratch(config, most));
  for_lists(ctx, std::ssize(chosen), [&](int64_t i) {
    const int64_t position = first + i / config.kv_heads, own = position / block,
                  kv = i % config.kv_heads;
    Chosen& list = chosen[static_cast<size_t>(i)];
    list.push_back(0);
    if (taken(position) < middle(position) && !ctx.dry()) {
      const ScratchSlots::Lease lease(scratch);
      KvView seen = compressed;
      seen.length = blocks.whole(position + 1);
      const float* queries = q.data() + (i / config.kv_heads * config.heads + kv * group) * d;
      attention_probabilities(config, kv, queries, d, seen, lease.data(), lease.data() + most);
      std::vector<double> importance(static_cast<size_t>(own - 1));
      share_out({lease.data(), static_cast<size_t>(seen.length)}, blocks, block, importance);
      const std::span<const double> to_choose(importance.begin() + 1, importance.end());
      for (const int32_t b : largest(to_choose, taken(position))) list.push_back(b + 1);
    } else {
      for (int64_t b = 1; b <= taken(position); ++b) list.push_back(static_cast<int32_t>(b));
    }
    if (own > 1) list.push_back(static_cast<int32_t>(own - 1));
    if (own > 0) list.push_back(static_cast<int32_t>(own));
  });
  return chosen;
}

KeyRuns runs_of_blocks(const std::vector<Chosen>& lists, int64_t sets, int64_t first,
                       int64_t block) {
  KeyRuns runs;
  runs.sets = sets;
  runs.starts.push_back(0);
  for (int64_t i = 0; i < std::ssize(lists); ++i) {
    const int64_t seen = first + i / sets + 1;
    for (const int32_t b : lists[static_cast<size_t>(i)]) {
      runs.runs.push_back(
          {static_cast<int32_t>(b * block), static_cast<int32_t>(std::min((b + 1) * block, seen))});
    }
    runs.starts.push_back(std::ssize(runs.runs));
  }
  return runs;
}

}  // namespace braid
