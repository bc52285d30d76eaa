#include "braid/ops/rope.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "braid/testing/numeric.h"

namespace braid {
namespace {

// The definition: pair i of a head at position p turns by p * theta^(-2i / rotary), `first`
// channels into the head.
template <typename Number>
void definition(const RopeConfig& c, int64_t position, int64_t d, Number* head) {
  head += c.first;
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
  BRAID_CHECK(c.first + c.rotary <= d);
}

const std::vector<int64_t> kStarts{0, 3, 4, 80}, kOffsets{0, 131071, 62};

int64_t position(int64_t row) { return row < 3 ? row : row < 4 ? 131071 : 62 + row - 4; }

}  // namespace

TEST_CASE("rope agrees with its definition, forward and backward, in every layout") {
  Context ctx;
  for (const RopeConfig& c :
       {RopeConfig{1e4, 64, false}, RopeConfig{1e4, 64, true}, RopeConfig{1e7, 4, false},
        RopeConfig{1e6, 40, true}, RopeConfig{1e4, 0, false}, RopeConfig{1e4, 24, true, 40},
        RopeConfig{1e4, 6, false, 7}}) {
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

TEST_CASE("scalings: their frequencies, one by one from the definitions") {
  const auto rate = [](const std::string& text, int64_t i, int64_t length = 0) {
    const RopeScaling s = parse_rope_scaling("test", text, 64);
    return rope_frequencies(s, 150000, 64, length)[static_cast<size_t>(i)];
  };
  const auto plain = [](int64_t i) { return std::pow(150000.0, -static_cast<double>(i) / 32); };
  for (int64_t i = 0; i < 32; ++i) {
    CHECK(rate("none", i) == doctest::Approx(plain(i)).epsilon(1e-14));
    CHECK(rate("linear:8", i) == doctest::Approx(plain(i) / 8).epsilon(1e-14));
    CHECK(rate("dynamic:2:100", i, 100) == doctest::Approx(plain(i)).epsilon(1e-14));
    // At 300 tokens the base grows by (2 * 3 - 1)^(64/62).
    const double grown = std::pow(150000 * std::pow(5.0, 64.0 / 62), -static_cast<double>(i) / 32);
    CHECK(rate("dynamic:2:100", i, 300) == doctest::Approx(grown).epsilon(1e-13));
  }
  // gpt-oss: the ramp of yarn:32:4096:32:1 runs from pair 8.09 to 17.40.
  CHECK(rate("yarn:32:4096:32:1:false:1", 8) == plain(8));
  CHECK(rate("yarn:32:4096:32:1:false:1", 9) < plain(9));
  CHECK(rate("yarn:32:4096:32:1:false:1", 17) > plain(17) / 32);
  CHECK(rate("yarn:32:4096:32:1:false:1", 18) == doctest::Approx(plain(18) / 32).epsilon(1e-14));
  const double share = (12 - 8.0) / (18 - 8.0);  // rounded outwards
  CHECK(rate("yarn:32:4096:32:1:true:1", 12) ==
        doctest::Approx(plain(12) * (1 - share + share / 32)).epsilon(1e-12));
  // llama3: waves shorter than 8192 / 4 stay, longer than 8192 are divided.
  for (int64_t i = 0; i < 32; ++i) {
    const double wave = 2 * std::acos(-1.0) / plain(i), got = rate("llama3:8:1:4:8192", i);
    if (wave < 2048) CHECK(got == plain(i));
    if (wave > 8192) CHECK(got == plain(i) / 8);
    if (wave >= 2048 && wave <= 8192) CHECK((got > plain(i) / 8 && got < plain(i)));
  }
  CHECK(rate("llama3:16:1:1:8192", 31) == plain(31) / 16);
}

TEST_CASE("scalings: attention factor, lengths, and what is refused") {
  Context ctx;
  const std::vector<int64_t> one{0, 1}, at{5}, longer{9};
  RopeConfig c{1e4, 4, false};
  const Tensor base = rope_table(ctx, c, one, at);
  c.scaling = parse_rope_scaling("test", "longrope:6:1.5:1:1:2:4", 4);
  const Tensor near = rope_table(ctx, c, one, at), far = rope_table(ctx, c, one, at, longer);
  for (int64_t i = 0; i < 4; ++i)
    CHECK(near.data()[i] == doctest::Approx(1.5 * base.data()[i]).epsilon(1e-6));
  CHECK(far.data()[0] == doctest::Approx(1.5 * std::cos(5.0 / 2)).epsilon(1e-6));
  CHECK(far.data()[3] == doctest::Approx(1.5 * std::sin(5.0 / 100 / 4)).epsilon(1e-6));
  const auto error = [](const char* text) -> std::string {
    try {
      parse_rope_scaling("gqa", text, 4);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  CHECK(error("ntk:4") ==
        "gqa: rope_scaling=ntk:4: ntk is none of none, linear, dynamic, llama3, yarn, longrope");
  CHECK(error("linear:x") == "gqa: rope_scaling=linear:x: F is x, expected a positive number");
  CHECK(error("linear:0") == "gqa: rope_scaling=linear:0: F is 0, expected a positive number");
  CHECK(error("yarn:4:8:32:1:maybe:1") ==
        "gqa: rope_scaling=yarn:4:8:32:1:maybe:1: TRUNCATE is maybe, expected true or false");
  CHECK(error("longrope:6:1:1:1").find("has 4 fields, expected 6") != std::string::npos);
  CHECK(error("llama3:8:4:1:64").find("HIGH=1 is below LOW=4") != std::string::npos);
  CHECK(error("").find("is none of") != std::string::npos);
}

}  // namespace braid
