#include "braid/ops/unfold.h"

#include <algorithm>
#include <vector>

#include "braid/core/parallel.h"

namespace braid {
namespace {

// Where the blocks of a batch lie.
class Layout {
 public:
  Layout(std::span<const int64_t> seq_starts, KvBlocks blocks)
      : blocks_(blocks), starts_(seq_starts.begin(), seq_starts.end()) {
    for (size_t s = 0; s + 1 < starts_.size(); ++s) {
      before_.push_back(std::ssize(first_));
      const int64_t count = blocks.whole(starts_[s + 1] - starts_[s]);
      for (int64_t i = 0; i < count; ++i) first_.push_back(starts_[s] + i * blocks.stride);
    }
    before_.push_back(std::ssize(first_));
  }
  int64_t count() const { return std::ssize(first_); }
  int64_t size() const { return blocks_.block; }
  int64_t first_row(int64_t block) const { return first_[static_cast<size_t>(block)]; }

  // Calls body(block, place in it) for the blocks that hold the row, in their order.
  template <typename F>
  void for_blocks_of(int64_t row, F body) const {
    const auto after = std::upper_bound(starts_.begin(), starts_.end(), row);
    const size_t s = static_cast<size_t>(after - starts_.begin()) - 1;
    const int64_t at = row - starts_[s], own = before_[s + 1] - before_[s];
    const int64_t past = std::max<int64_t>(0, at - blocks_.block + blocks_.stride);
    const int64_t end = std::min(own, at / blocks_.stride + 1);
    for (int64_t i = past / blocks_.stride; i < end; ++i)
      body(before_[s] + i, at - i * blocks_.stride);
  }

 private:
  KvBlocks blocks_;
  std::vector<int64_t> starts_, first_, before_;
};

int64_t grain_of(int64_t cols) {
  return std::max<int64_t>(1, (1 << 14) / std::max<int64_t>(1, cols));
}

}  // namespace

Tensor unfold_blocks(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                     KvBlocks blocks) {
  BRAID_CHECK(x.contiguous() && x.rank() == 3);
  const Layout layout(seq_starts, blocks);
  const int64_t heads = x.size(1), d = x.size(2), row = heads * d, size = layout.size();
  Tensor y = Tensor::empty(ctx, {layout.count(), heads, size * d});
  parallel_for(ctx, layout.count(), grain_of(size * row), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      for (int64_t j = 0; j < size; ++j) {
        const float* from = x.data() + (layout.first_row(b) + j) * row;
        for (int64_t h = 0; h < heads; ++h)
          std::copy_n(from + h * d, d, y.data() + ((b * heads + h) * size + j) * d);
      }
    }
  });
  Tape* tape = recording(ctx, {&x});
  if (tape == nullptr) return y;
  tape->record(y, [=](Tape& t, const Tensor& dy) {
    Tensor dx = Tensor::zeros(t.context(), x.shape());
    parallel_for(t.context(), x.size(0), grain_of(2 * row), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        layout.for_blocks_of(r, [&](int64_t b, int64_t j) {
          for (int64_t h = 0; h < heads; ++h) {
            const float* from = dy.data() + ((b * heads + h) * size + j) * d;
            float* to = dx.data() + r * row + h * d;
            for (int64_t c = 0; c < d; ++c) to[c] += from[c];
          }
        });
      }
    });
    t.add(x, std::move(dx));
  });
  return y;
}

Tensor block_means(const Context& ctx, const Tensor& x, std::span<const int64_t> seq_starts,
                   KvBlocks blocks) {
  BRAID_CHECK(x.contiguous() && x.rank() == 3);
  const Layout layout(seq_starts, blocks);
  const int64_t row = x.size(1) * x.size(2), size = layout.size();
  Tensor y = Tensor::zeros(ctx, {layout.count(), x.size(1), x.size(2)});
  parallel_for(ctx, layout.count(), grain_of(size * row), [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      float* to = y.data() + b * row;
      for (int64_t j = 0; j < size; ++j) {
        const float* from = x.data() + (layout.first_row(b) + j) * row;
        for (int64_t c = 0; c < row; ++c) to[c] += from[c];
      }
      for (int64_t c = 0; c < row; ++c) to[c] /= static_cast<float>(size);
    }
  });
  Tape* tape = recording(ctx, {&x});
  if (tape == nullptr) return y;
  tape->record(y, [=](Tape& t, const Tensor& dy) {
    Tensor dx = Tensor::zeros(t.context(), x.shape());
    parallel_for(t.context(), x.size(0), grain_of(2 * row), [&](int64_t begin, int64_t end) {
      for (int64_t r = begin; r < end; ++r) {
        float* to = dx.data() + r * row;
        layout.for_blocks_of(r, [&](int64_t b, int64_t) {
          const float* from = dy.data() + b * row;
          for (int64_t c = 0; c < row; ++c) to[c] += from[c] / static_cast<float>(size);
        });
      }
    });
    t.add(x, std::move(dx));
  });
  return y;
}

}  // namespace braid
