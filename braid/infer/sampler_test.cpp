#include "braid/infer/sampler.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "braid/base/error.h"

namespace braid {
namespace {

std::vector<double> frequencies(const std::vector<float>& logits, const SamplingConfig& c,
                                int draws) {
  std::vector<double> f(logits.size(), 0.0);
  for (int i = 0; i < draws; ++i)
    f[static_cast<size_t>(sample(logits, {}, c, static_cast<uint64_t>(i)))] += 1.0 / draws;
  return f;
}

}  // namespace

TEST_CASE("samples follow the softmax of the logits") {
  const std::vector<float> logits = {0.0f, std::log(2.0f), std::log(5.0f)};
  const auto f = frequencies(logits, {}, 20000);
  // Standard deviation of each frequency is below 0.0036: five of them.
  CHECK(std::abs(f[0] - 0.125) < 0.018);
  CHECK(std::abs(f[1] - 0.25) < 0.018);
  CHECK(std::abs(f[2] - 0.625) < 0.018);
}

TEST_CASE("filters keep what they should") {
  const std::vector<float> logits = {std::log(0.5f), std::log(0.3f), std::log(0.15f),
                                     std::log(0.05f)};
  SamplingConfig c;
  c.top_k = 2;
  CHECK(frequencies(logits, c, 2000)[2] == 0);
  c = {};
  c.top_p = 0.79;
  CHECK(frequencies(logits, c, 2000)[2] == 0);
  CHECK(frequencies(logits, c, 2000)[1] > 0.2);
  c = {};
  c.min_p = 0.2;
  CHECK(frequencies(logits, c, 2000)[3] == 0);
  CHECK(frequencies(logits, c, 2000)[2] > 0.05);
}

TEST_CASE("greedy takes the lowest of equal ids, and the penalty moves it") {
  const std::vector<float> logits = {1.0f, 2.0f, 2.0f};
  SamplingConfig c;
  c.temperature = 0;
  CHECK(sample(logits, {}, c, 0) == 1);
  c.repetition_penalty = 1.5;
  const std::vector<int32_t> history = {1, 1};
  CHECK(sample(logits, history, c, 0) == 2);
}

TEST_CASE("logits that are not numbers are refused, whatever the filters") {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const double temperature : {0.0, 1.0}) {
    SamplingConfig c;
    c.temperature = temperature;
    for (const float bad : {nan, kInf}) {
      std::vector<float> logits(100, 1.0f);
      logits[42] = bad;
      CHECK_THROWS_AS(sample(logits, {}, c, 0), Error);
      try {
        sample(logits, {}, c, 0);
      } catch (const Error& e) {
        CHECK(e.kind() == ErrorKind::kBadInput);
        CHECK(std::string_view(e.what()).find("token 42") != std::string_view::npos);
      }
    }
    const std::vector<float> masked = {-kInf, 1.0f, -kInf};
    CHECK(sample(masked, {}, c, 0) == 1);
  }
}

TEST_CASE("values out of range are refused with their flag") {
  SamplingConfig c;
  c.top_p = 0;
  CHECK_THROWS_WITH_AS(check_sampling(c), "--top-p is 0; it must be above 0 and at most 1 (off)",
                       Error);
}

}  // namespace braid
