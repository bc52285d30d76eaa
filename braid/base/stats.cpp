#include "braid/base/stats.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <numeric>

namespace braid {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

}  // namespace

double median(std::vector<double> values) {
  if (values.empty()) return kNan;
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return n % 2 == 1 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

double mean(std::span<const double> values) {
  if (values.empty()) return kNan;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return kNan;
  const double middle = mean(values);
  double squares = 0;
  for (const double v : values) squares += (v - middle) * (v - middle);
  return std::sqrt(squares / static_cast<double>(values.size() - 1));
}

double student_t_cdf(double t, int64_t freedom) {
  const double angle = std::atan(t / std::sqrt(static_cast<double>(freedom)));
  const double c = std::cos(angle), s = std::sin(angle);
  double two_sided = 0;  // P(|T| <= |t|), with the sign of t
  if (freedom % 2 == 1) {
    double term = c, sum = freedom > 1 ? c : 0;
    for (int64_t k = 3; k < freedom; k += 2) {
      term *= c * c * static_cast<double>(k - 1) / static_cast<double>(k);
      sum += term;
    }
    two_sided = 2 / std::numbers::pi * (angle + s * sum);
  } else {
    double term = 1, sum = 1;
    for (int64_t k = 2; k < freedom; k += 2) {
      term *= c * c * static_cast<double>(k - 1) / static_cast<double>(k);
      sum += term;
    }
    two_sided = s * sum;
  }
  return (1 + two_sided) / 2;
}

double student_t_two_sided(double level, int64_t freedom) {
  const double wanted = (1 + level) / 2;
  double low = 0, high = 1;
  while (student_t_cdf(high, freedom) < wanted) high *= 2;
  for (int i = 0; i < 200 && low < high; ++i) {
    const double middle = (low + high) / 2;
    (student_t_cdf(middle, freedom) < wanted ? low : high) = middle;
  }
  return high;
}

MeanInterval mean_interval(std::span<const double> values, double level) {
  MeanInterval out{mean(values), kNan, static_cast<int64_t>(values.size())};
  if (out.count < 2) return out;
  out.half = student_t_two_sided(level, out.count - 1) * standard_deviation(values) /
             std::sqrt(static_cast<double>(out.count));
  return out;
}

}  // namespace braid
