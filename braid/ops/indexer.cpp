#include "braid/ops/indexer.h"

#include <algorithm>
#include <cstring>

#include "braid/core/parallel.h"
#include "braid/kernels/attention/index_scores.h"
#include "braid/ops/scratch_slots.h"

namespace braid {
namespace {

constexpr int64_t kQueries = 16;      // whose scores are held at a time
constexpr int64_t kPositions = 4096;  // of one range, a multiple of kIndexKeys

}  // namespace

std::vector<Chosen> choose_keys(const Context& ctx, const Tensor& q, const Tensor& weights,
                                const LatentView& keys, int64_t first, int64_t top) {
  const int64_t queries = q.size(0), heads = q.size(1), dim = q.size(2);
  BRAID_CHECK(q.contiguous() && weights.contiguous() && keys.layout.rank == dim);
  std::vector<Chosen> chosen(static_cast<size_t>(queries));
  const double pairs = static_cast<double>(queries) *
                       (static_cast<double>(first) + static_cast<double>(queries + 1) / 2);
  ctx.count_product(2.0 * pairs * static_cast<double>(heads * dim));
  for (int64_t begin = 0; begin < queries; begin += kQueries) {
    const int64_t count = std::min(kQueries, queries - begin), longest = first + begin + count;
    const int64_t ranges = (longest + kPositions - 1) / kPositions;
    const Tensor scores = Tensor::empty(ctx, {count, longest});
    {
      ScratchSlots scratch(ctx, count * ranges, index_scores_scratch(heads, dim));
      parallel_for(ctx, count * ranges, 1, [&](int64_t item, int64_t) {
        const int64_t i = item / ranges, from = item % ranges * kPositions;
        const int64_t end = std::min(from + kPositions, first + begin + i + 1);
        if (from >= end) return;
        const ScratchSlots::Lease lease(scratch);
        index_scores_f32(keys, from, end, heads, dim, q.data() + (begin + i) * heads * dim,
                         weights.data() + (begin + i) * heads, scores.data() + i * longest + from,
                         lease.data());
      });
    }
    parallel_for(ctx, count, 1, [&](int64_t i, int64_t) {
      const std::span<const float> own(scores.data() + i * longest,
                                       static_cast<size_t>(first + begin + i + 1));
      chosen[static_cast<size_t>(begin + i)] = largest(own, top);
    });
  }
  return chosen;
}

LatentView chosen_latents(LatentView of, std::span<const int32_t> positions) {
  of.chosen = positions.data();
  of.length = std::ssize(positions);
  return of;
}

KeyPages::KeyPages(const Context& ctx, const Tensor& x)
    : layout_{KvType::kF32, x.size(1), 0}, length_(x.size(0)) {
  const int64_t count = std::max<int64_t>(1, (length_ + kLatentPage - 1) / kLatentPage);
  memory_ = Tensor::empty(ctx, {count, layout_.page()}, DType::kU8);
  for (int64_t i = 0; i < count; ++i)
    pages_.push_back(memory_.data<std::byte>() + i * layout_.page());
  if (ctx.dry()) return;
  std::memcpy(memory_.data<std::byte>(), x.data(), x.bytes());
  // What lies past the last row is read and dropped: it must be numbers.
  std::memset(memory_.data<std::byte>() + x.bytes(), 0,
              static_cast<size_t>(memory_.count()) - x.bytes());
}

}  // namespace braid
