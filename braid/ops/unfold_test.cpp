#include "braid/ops/unfold.h"

#include <doctest/doctest.h>

#include "braid/testing/numeric.h"

namespace braid {
namespace {

const std::vector<int64_t> kStarts = {0, 3, 3, 20, 31};
constexpr KvBlocks kShapes[] = {{4, 4}, {4, 2}, {6, 2}, {5, 1}, {2, 4}, {1, 1}};

struct Blocks {
  std::vector<int64_t> first;
  explicit Blocks(KvBlocks shape) {
    for (size_t s = 0; s + 1 < kStarts.size(); ++s) {
      for (int64_t r = kStarts[s]; r + shape.block <= kStarts[s + 1]; r += shape.stride)
        first.push_back(r);
    }
  }
};

}  // namespace

TEST_CASE("blocks count as they are cut") {
  for (const KvBlocks shape : kShapes) {
    for (int64_t tokens = 0; tokens < 40; ++tokens) {
      int64_t count = 0;
      while (count * shape.stride + shape.block <= tokens) ++count;
      CHECK(shape.whole(tokens) == count);
      CHECK(shape.whole(shape.tokens(count)) == count);
      CHECK(shape.tokens(count) <= tokens);
    }
  }
}

TEST_CASE("unfolded blocks and their means, and the gradients of both") {
  const Context ctx;
  const int64_t heads = 2, d = 3, row = heads * d;
  for (const KvBlocks shape : kShapes) {
    CAPTURE(shape.block);
    CAPTURE(shape.stride);
    const Blocks blocks(shape);
    const int64_t n = std::ssize(blocks.first), l = shape.block;
    Tensor x = testing::random_tensor(ctx, {kStarts.back(), heads, d}, "x");
    const Tensor up = testing::random_tensor(ctx, {n, heads, l * d}, "up");
    const Tensor up_mean = testing::random_tensor(ctx, {n, heads, d}, "up_mean");
    std::vector<double> want, mean(static_cast<size_t>(n * row)),
        dx(static_cast<size_t>(x.count())), dx_mean(dx.size());
    for (int64_t b = 0; b < n; ++b) {
      for (int64_t h = 0; h < heads; ++h) {
        for (int64_t i = 0; i < l * d; ++i) {
          const int64_t from = (blocks.first[static_cast<size_t>(b)] + i / d) * row + h * d + i % d;
          const size_t to = static_cast<size_t>((b * heads + h) * d + i % d);
          want.push_back(x.data()[from]);
          mean[to] += double{x.data()[from]} / static_cast<double>(l);
          dx[static_cast<size_t>(from)] += up.data()[(b * heads + h) * l * d + i];
          dx_mean[static_cast<size_t>(from)] += up_mean.data()[to] / static_cast<double>(l);
        }
      }
    }
    Tape tape;
    Context train = ctx;
    train.tape = &tape;
    tape.watch(x);
    const Tensor y = unfold_blocks(train, x, kStarts, shape);
    CHECK(testing::values(y) == want);
    tape.backward(ctx, y, up);
    CHECK(testing::worst_error(tape.grad(x), dx) <= 1e-6);

    Tape second;
    train.tape = &second;
    second.watch(x);
    const Tensor m = block_means(train, x, kStarts, shape);
    CHECK(testing::worst_error(m, mean) <= 1e-6);
    second.backward(ctx, m, up_mean);
    CHECK(testing::worst_error(second.grad(x), dx_mean) <= 1e-6);
  }
}

}  // namespace braid
