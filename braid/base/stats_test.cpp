#include "braid/base/stats.h"

#include <doctest/doctest.h>

#include <cmath>

namespace braid {
namespace {

TEST_CASE("median, mean and deviation by hand") {
  CHECK(median({3}) == 3);
  CHECK(median({5, 1, 3}) == 3);
  CHECK(median({4, 1, 3, 10}) == 3.5);
  CHECK(std::isnan(median({})));
  const double values[] = {2, 4, 4, 4, 5, 5, 7, 9};  // squares about 5: 32
  CHECK(mean(values) == 5);
  CHECK(standard_deviation(values) == doctest::Approx(std::sqrt(32.0 / 7)));
  CHECK(std::isnan(standard_deviation({values, 1})));
}

TEST_CASE("Student's t: the quantiles of the printed tables, odd and even degrees") {
  // Two-sided 95 %.
  const std::pair<int64_t, double> table[] = {{1, 12.706}, {2, 4.303},  {3, 3.182},
                                              {4, 2.776},  {5, 2.571},  {9, 2.262},
                                              {10, 2.228}, {30, 2.042}, {120, 1.980}};
  for (const auto& [freedom, t] : table) {
    CAPTURE(freedom);
    CHECK(student_t_two_sided(0.95, freedom) == doctest::Approx(t).epsilon(3e-4));
    CHECK(student_t_cdf(t, freedom) == doctest::Approx(0.975).epsilon(1e-4));
    CHECK(student_t_cdf(-t, freedom) == doctest::Approx(0.025).epsilon(4e-3));
  }
  CHECK(student_t_two_sided(0.99, 2) == doctest::Approx(9.925).epsilon(1e-3));
  CHECK(student_t_cdf(0, 7) == 0.5);
}

TEST_CASE("an interval of the mean by hand") {
  // Mean 2, deviation 1, 3 values: half = 4.3027 / sqrt(3).
  const double values[] = {1, 2, 3};
  const MeanInterval m = mean_interval(values);
  CHECK(m.mean == 2);
  CHECK(m.count == 3);
  CHECK(m.half == doctest::Approx(4.302653 / std::sqrt(3.0)));
  CHECK(std::isnan(mean_interval({values, 1}).half));
}

}  // namespace
}  // namespace braid
