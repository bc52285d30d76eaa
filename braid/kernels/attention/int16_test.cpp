// Attention's products in 16-bit integers against double precision: what half a unit of every
// number can do, and no more.

#include "braid/kernels/attention/int16.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "braid/base/rng.h"

namespace braid {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr double kF32 = 1e-6;  // of what is rounded once or twice in f32

std::vector<float> normal(int64_t count, uint64_t seed) {
  std::vector<float> x(static_cast<size_t>(count));
  const Rng rng(seed, "int16_test");
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(rng.normal(i));
  return x;
}

// Rows of very different length, one of a single number, one of zeros.
void unlike_rows(std::vector<float>& x, int64_t rows, int64_t row_step, int64_t cols,
                 int64_t col_step) {
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t c = 0; c < cols; ++c) {
      float& at = x[static_cast<size_t>(r * row_step + c * col_step)];
      at *= std::exp2(static_cast<float>(r % 60 - 30));
      if (r % 5 == 1 && c != r % cols) at = 0;
      if (r % 7 == 2) at = 0;
      if (r % 5 == 3) at = std::copysign(1.0f, static_cast<float>(c % 3) - 1);  // all as large
    }
  }
}

std::vector<float> scores_of(const std::vector<float>& q, int64_t rows, const std::vector<float>& k,
                             int64_t d, std::vector<float>& q_scales,
                             std::vector<float>& k_scales) {
  const int64_t padded = (rows + kInt16Rows - 1) / kInt16Rows * kInt16Rows;
  std::vector<int16_t> left(static_cast<size_t>(padded * d)),
      right(static_cast<size_t>(kKvTile * d));
  q_scales.assign(static_cast<size_t>(padded), -1);
  k_scales.assign(kKvTile, -1);
  std::vector<float> scores(static_cast<size_t>(padded * kKvTile), kNaN);
  int16_queries(q.data(), d, rows, d, 0.5f, left.data(), q_scales.data());
  int16_keys(k.data(), d, right.data(), k_scales.data());
  int16_scores(left.data(), q_scales.data(), padded, right.data(), k_scales.data(), d,
               scores.data());
  return scores;
}

std::vector<float> gathered(const std::vector<float>& p, int64_t rows, const std::vector<float>& v,
                            int64_t dv, float before) {
  const int64_t padded = (rows + kInt16Rows - 1) / kInt16Rows * kInt16Rows;
  std::vector<int16_t> right(static_cast<size_t>(kKvTile * dv));
  std::vector<float> scales(kKvTile), out(static_cast<size_t>(padded * dv), before);
  int16_values(v.data(), dv, right.data(), scales.data());
  int16_gather(p.data(), rows, right.data(), scales.data(), dv, out.data());
  return out;
}

}  // namespace

TEST_CASE("scores in 16-bit integers err by half a unit of each number at most") {
  for (const int64_t d : {32, 128, 256}) {
    for (const int64_t rows : {1, 8, 50, 64}) {
      CAPTURE(d);
      CAPTURE(rows);
      std::vector<float> q = normal(rows * d, 1), k = normal(d * kKvTile, 2), qs, ks;
      unlike_rows(q, rows, d, d, 1);
      unlike_rows(k, kKvTile, 1, d, kKvTile);
      const std::vector<float> got = scores_of(q, rows, k, d, qs, ks);
      int wrong = 0;
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t j = 0; j < kKvTile; ++j) {
          const double uq = qs[static_cast<size_t>(r)] / 0.5, uk = ks[static_cast<size_t>(j)];
          double want = 0, bound = 0;
          for (int64_t c = 0; c < d; ++c) {
            const double x = q[static_cast<size_t>(r * d + c)],
                         y = k[static_cast<size_t>(c * kKvTile + j)];
            want += 0.5 * x * y;
            bound += 0.25 * (std::abs(x) * uk + std::abs(y) * uq + 0.5 * uq * uk) +
                     kF32 * std::abs(x * y);
          }
          wrong += !(std::abs(got[static_cast<size_t>(r * kKvTile + j)] - want) <= bound);
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("the longest queries and keys do not leave 32 bits, and use them") {
  for (const int64_t d : {32, 64, 128, 512}) {
    CAPTURE(d);
    // Parallel to each other: the product of lengths is reached.
    std::vector<float> q(static_cast<size_t>(d)), k(static_cast<size_t>(d * kKvTile)), qs, ks;
    for (int64_t c = 0; c < d; ++c) {
      q[static_cast<size_t>(c)] = c % 2 == 0 ? 3.0f : -2.9f;
      for (int64_t j = 0; j < kKvTile; ++j)
        k[static_cast<size_t>(c * kKvTile + j)] =
            q[static_cast<size_t>(c)] * static_cast<float>(j % 2 * 2 - 1);
    }
    const std::vector<float> got = scores_of(q, 1, k, d, qs, ks);
    double want = 0;
    for (const float x : q) want += 0.5 * x * x;
    // Numbers of one size round alike: half a unit of either row.
    const double bound = 1.1 * std::sqrt(static_cast<double>(d)) / kInt16Norm * want;
    for (int64_t j = 0; j < kKvTile; ++j)
      CHECK(std::abs(got[static_cast<size_t>(j)] - want * static_cast<double>(j % 2 * 2 - 1)) <
            bound);
    // Two units are the length's 1 / kInt16Norm.
    CHECK(qs[0] / 0.5 <= 1.001 * std::sqrt(2 * want) / kInt16Norm);
  }
}

TEST_CASE("values in 16-bit integers are gathered within half a unit of each number") {
  for (const int64_t dv : {32, 96, 128, 256}) {
    for (const int64_t rows : {1, 9, 64}) {
      CAPTURE(dv);
      CAPTURE(rows);
      std::vector<float> v = normal(kKvTile * dv, 3), p = normal(rows * kKvTile, 4);
      unlike_rows(v, kKvTile, dv, dv, 1);
      for (float& x : p) x = std::exp2(-std::abs(3 * x));
      for (int64_t j = 0; j < kKvTile; ++j) p[static_cast<size_t>(j)] = j == 40;  // a peak
      const std::vector<float> got = gathered(p, rows, v, dv, 0.25f);
      int wrong = 0;
      for (int64_t r = 0; r < rows; ++r) {
        double sum = 0, most = 0, scales[kKvTile];
        for (int64_t j = 0; j < kKvTile; ++j) {
          double largest = 0;
          for (int64_t c = 0; c < dv; ++c)
            largest = std::max<double>(largest, std::abs(v[static_cast<size_t>(j * dv + c)]));
          scales[j] = largest / kInt16Value;
          sum += p[static_cast<size_t>(r * kKvTile + j)] * scales[j];
          most = std::max(most, p[static_cast<size_t>(r * kKvTile + j)] * scales[j]);
        }
        const double unit = std::max(sum / kInt16Sum, most / 32767);
        for (int64_t c = 0; c < dv; ++c) {
          double want = 0.25, bound = kF32;
          for (int64_t j = 0; j < kKvTile; ++j) {
            const double x = p[static_cast<size_t>(r * kKvTile + j)],
                         y = v[static_cast<size_t>(j * dv + c)];
            want += x * y;
            // In units of the value its number is at most half larger.
            const double number = scales[j] > 0 ? std::abs(y) / scales[j] + 0.5 : 0;
            bound += 0.5 * (unit * number + x * scales[j]) + kF32 * std::abs(x * y);
          }
          wrong += !(std::abs(got[static_cast<size_t>(r * dv + c)] - want) <= bound);
        }
      }
      CHECK(wrong == 0);
      const auto past = got.begin() + rows * dv;
      CHECK(std::all_of(past, got.end(), [](float x) { return x == 0.25f; }));
    }
  }
}

TEST_CASE("probabilities that are all one do not leave 32 bits") {
  const int64_t dv = 32;
  const std::vector<float> p(kKvTile * kKvTile, 1.0f), v(kKvTile * dv, -7.0f);
  for (const float x : gathered(p, kKvTile, v, dv, 0))
    CHECK(x == doctest::Approx(-448.0).epsilon(3e-4));
}

TEST_CASE("NaN and infinities of integers' operands come out as NaN, in their rows alone") {
  const int64_t d = 64;
  for (const float bad :
       {kNaN, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity()}) {
    std::vector<float> q = normal(kKvTile * d, 1), k = normal(d * kKvTile, 2), qs, ks;
    std::vector<float> p = normal(kKvTile * kKvTile, 3), v = normal(kKvTile * d, 4);
    for (float& x : p) x = std::abs(x);
    q[5 * d + 9] = k[33 * kKvTile + 17] = bad;
    const std::vector<float> scores = scores_of(q, kKvTile, k, d, qs, ks);
    int wrong = 0;
    for (int64_t r = 0; r < kKvTile; ++r) {
      for (int64_t j = 0; j < kKvTile; ++j) {
        const float x = scores[static_cast<size_t>(r * kKvTile + j)];
        wrong += r == 5 || j == 17 ? !std::isnan(x) : !std::isfinite(x);
      }
    }
    CHECK(wrong == 0);
    std::vector<float> one = p;
    one[6 * kKvTile + 60] = kNaN;
    const std::vector<float> out = gathered(one, kKvTile, v, d, 0);
    for (int64_t i = 0; i < kKvTile * d; ++i)
      wrong += (i / d == 6) == std::isfinite(out[static_cast<size_t>(i)]);
    CHECK(wrong == 0);
    v[3 * d + 1] = bad;
    for (const float x : gathered(p, kKvTile, v, d, 0)) wrong += !std::isnan(x);
    CHECK(wrong == 0);
  }
}

}  // namespace braid
