#include "braid/ops/rope.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <vector>

#include "braid/testing/numeric.h"

namespace braid {
namespace {

// The definition: pair i of a head at position p turns by p * theta^(-2i / rotary).
template <typename Number>
void definition(const RopeConfig& c, int64_t position, int64_t d, Number* head) {
  for (int64_t i = 0; i < c.rotary / 2; ++i) {
    const double angle =
        static_cast<double>(position) *
        std::pow(c.theta, -2.0 * static_cast<double>(i) / static_cast<double>(c.rotary));
    Number& a = head[c.interleaved ? 2 * i : i];
    Number& b = head[c.interleaved ? 2 * i + 1 : i + c.rotary / 2];
    const Number x = a, y = b;
    a = x * std::cos(angle) - y * std::sin(angle);
    b = y * std::cos(angle) + x * std::sin(angle);
  }
  BRAID_CHECK(c.rotary <= d);
}

const std::vector<int64_t> kStarts{0, 3, 4, 80}, kOffsets{0, 131071, 62};

int64_t position(int64_t row) { return row < 3 ? row : row < 4 ? 131071 : 62 + row - 4; }

}  // namespace

TEST_CASE("rope agrees with its definition, forward and backward, in every layout") {
  Context ctx;
  for (const RopeConfig c :
       {RopeConfig{1e4, 64, false}, RopeConfig{1e4, 64, true}, RopeConfig{1e7, 4, false},
        RopeConfig{1e6, 40, true}, RopeConfig{1e4, 0, false}}) {
    const int64_t heads = 3, d = 64;
    const Tensor table = rope_table(ctx, c, kStarts, kOffsets);
    Tensor x = testing::random_tensor(ctx, {80, heads, d}, "x"),
           up = testing::random_tensor(ctx, x.shape(), "up");
    Tape tape;
    tape.watch(x);
    Context train = ctx;
    train.tape = &tape;
    const Tensor y = rope(train, c, x, table);
    tape.backward(ctx, y, up);
    std::vector<double> want = testing::values(x), back = testing::values(up);
    for (int64_t i = 0; i < 80 * heads; ++i) {
      definition(c, position(i / heads), d, want.data() + i * d);
      definition(c, -position(i / heads), d, back.data() + i * d);
    }
    CHECK(testing::worst_error(y, want) <
          3e-7);  // one rounding of the angle's cosine and of each product
    CHECK(testing::worst_error(tape.grad(x), back) < 3e-7);

    // The same heads as every second block of d columns of a wider projection.
    Tensor wide = testing::random_tensor(ctx, {80 * heads, 2 * d}, "wide");
    for (int64_t i = 0; i < 80 * heads; ++i)
      std::memcpy(wide.data() + i * 2 * d, x.data() + i * d, d * sizeof(float));
    const Tensor strided = rope(ctx, c, wide.narrow(1, 0, d), table);
    CHECK(std::memcmp(strided.data(), y.data(), y.bytes()) == 0);
  }
}

TEST_CASE("a position's angles do not depend on the batch or on the number of threads") {
  const RopeConfig c{1e4, 32, false};
  for (int threads : {1, 2}) {
    Context ctx;
    ctx.threads = threads;
    const Tensor table = rope_table(ctx, c, kStarts, kOffsets);
    for (int64_t row = 0; row < 80; ++row) {
      const Tensor alone =
          rope_table(ctx, c, std::vector<int64_t>{0, 1}, std::vector<int64_t>{position(row)});
      CHECK(std::memcmp(alone.data(), table.data() + row * 32, alone.bytes()) == 0);
    }
  }
}

}  // namespace braid
