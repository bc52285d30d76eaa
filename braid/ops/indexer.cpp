#include "braid/ops/indexer.h"

#include <algorithm>
#include <cstring>

#include "braid/core/parallel.h"
#include "braid/kernels/attention/index_scores.h"
#include "braid/ops/attention_scratch.h"
#include "braid/ops/selected_attention.h"

namespace braid {
namespace {

constexpr int64_t kQueries = 16;      // whose scores are held at a time
constexpr int64_t kPositions = 4096;  // of one range, a multiple of kIndexTile

// Memory of whole pages for `rows` rows, and where each begins.
Tensor page_memory(const Context& ctx, const LatentLayout& layout, int64_t rows,
                   std::vector<const std::byte*>& pages) {
  const int64_t count = (rows + kLatentPage - 1) / kLatentPage;
  Tensor memory = Tensor::empty(ctx, {std::max<int64_t>(1, count), layout.page()}, DType::kU8);
  for (int64_t i = 0; i < count; ++i) {
    pages.push_back(memory.data<std::byte>() + i * layout.page());
  }
  return memory;
}

// What lies past the last row is read and dropped: it must be numbers.
void clear_rest(const Context& ctx, const LatentLayout& layout, int64_t rows,
                const Tensor& memory) {
  if (ctx.dry()) return;
  const int64_t used = rows * layout.row();
  std::memset(memory.data<std::byte>() + used, 0, static_cast<size_t>(memory.count() - used));
}

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

GatheredLatents::GatheredLatents(const Context& ctx, const LatentView& from,
                                 std::span<const int32_t> positions)
    : layout_(from.layout), length_(std::ssize(positions)) {
  memory_ = page_memory(ctx, layout_, length_, pages_);
  const int64_t row = layout_.row();
  parallel_for(ctx, length_, 128, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(memory_.data<std::byte>() + i * row, from.row(positions[static_cast<size_t>(i)]),
                  static_cast<size_t>(row));
    }
  });
  clear_rest(ctx, layout_, length_, memory_);
}

KeyPages::KeyPages(const Context& ctx, const Tensor& x)
    : layout_{KvType::kF32, x.size(1), 0}, length_(x.size(0)) {
  memory_ = page_memory(ctx, layout_, length_, pages_);
  if (ctx.dry()) return;
  std::memcpy(memory_.data<std::byte>(), x.data(), x.bytes());
  clear_rest(ctx, layout_, length_, memory_);
}

}  // namespace braid
