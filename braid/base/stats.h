#pragma once
// Small statistics of measurements.

#include <cstdint>
#include <span>
#include <vector>

namespace braid {

// The middle value, the mean of the two middle ones for an even number; NaN of none.
double median(std::vector<double> values);
double mean(std::span<const double> values);  // NaN of none
// With n - 1 below the sum; NaN of fewer than two.
double standard_deviation(std::span<const double> values);

// The distribution function of Student's t with `freedom` >= 1 degrees, from the finite sums of
// Abramowitz and Stegun 26.7.3 and 26.7.4.
double student_t_cdf(double t, int64_t freedom);
// The t whose two-sided probability is `level`: |T| <= t. level in (0, 1).
double student_t_two_sided(double level, int64_t freedom);

// mean +- half: where the mean lies with the given confidence, by Student's t.
struct MeanInterval {
  double mean = 0;
  double half = 0;  // NaN of fewer than two values
  int64_t count = 0;
};
MeanInterval mean_interval(std::span<const double> values, double level = 0.95);

}  // namespace braid
