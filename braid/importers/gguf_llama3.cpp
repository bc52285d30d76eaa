#include "braid/importers/gguf_llama3.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace braid {
namespace {

constexpr double kTurn = 2 * std::numbers::pi;
constexpr double kUsualLow = 1, kUsualHigh = 4;
constexpr double kMostContext = 1 << 28;
constexpr double kClose = 1e-5;  // of divisors kept as f32

double frequency(const GgufModel& m, size_t i) {
  return std::pow(m.theta, -2.0 * static_cast<double>(i) / static_cast<double>(m.head_dim));
}

// The blend between two frequencies is a line: slope * frequency - offset.
struct Line {
  double slope = 0, offset = 0;
};

// Pairs that are blends: the frequency and how much of it is kept.
std::vector<std::pair<double, double>> blends(std::span<const float> divisors, double factor,
                                              const GgufModel& m) {
  std::vector<std::pair<double, double>> out;
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double d = static_cast<double>(divisors[i]);
    if (d > 1 + kClose && d < factor * (1 - kClose))
      out.emplace_back(frequency(m, i), (1 / d - 1 / factor) / (1 - 1 / factor));
  }
  return out;
}

// Numbers that a person wrote: whole ones or with few digits behind the point.
double rounded(double v) {
  const double near = std::round(v * 64) / 64;
  return std::fabs(near - v) < 1e-3 * std::max(1.0, std::fabs(v)) ? near : v;
}

bool gives(std::span<const float> divisors, const GgufModel& m) {
  if (!(m.original_context > 0 && m.low >= 0 && m.high > m.low)) return false;
  const std::vector<double> want = llama3_divisors(m);
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::fabs(want[i] - static_cast<double>(divisors[i])) > kClose * want[i]) return false;
  }
  return true;
}

// The context in which the usual limits lie where the divisors change: a power of two between the
// first that is 1 and the last that is the factor, where there are no blends.
double context_between(std::span<const float> divisors, const GgufModel& m) {
  double least = 0, most = kMostContext;
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double turn = kTurn / frequency(m, i);
    if (divisors[i] == 1.0f)
      least = std::max(least, kUsualHigh * turn);
    else
      most = std::min(most, kUsualLow * turn);
  }
  const double power = std::exp2(std::ceil(std::log2(std::max(1.0, least))));
  return power < most ? power : (least + most) / 2;
}

}  // namespace

std::vector<double> llama3_divisors(const GgufModel& m) {
  std::vector<double> out;
  const double context = static_cast<double>(m.original_context);
  for (size_t i = 0; i < static_cast<size_t>(m.head_dim / 2); ++i) {
    const double turns = context * frequency(m, i) / kTurn;
    if (turns > m.high) {
      out.push_back(1);
    } else if (turns < m.low) {
      out.push_back(m.factor);
    } else {
      const double blend = (turns - m.low) / (m.high - m.low);
      out.push_back(1 / ((1 - blend) / m.factor + blend));
    }
  }
  return out;
}

bool find_llama3(std::span<const float> divisors, GgufModel& m) {
  if (divisors.empty()) return false;
  GgufModel found = m;
  found.scaling = "llama3";
  found.factor =
      shortest_f32(static_cast<double>(*std::max_element(divisors.begin(), divisors.end())));
  if (!(found.factor > 1)) return false;
  const auto known = static_cast<double>(m.original_context);
  const auto try_limits = [&](double low, double high, double context) {
    if (!(context >= 1 && context <= kMostContext)) return false;
    found.low = rounded(low);
    found.high = rounded(high);
    found.original_context = std::llround(context);
    if (!gives(divisors, found)) return false;
    m = found;
    return true;
  };
  const auto points = blends(divisors, found.factor, m);
  if (points.size() < 2) {
    const double context =
        points.empty()
            ? context_between(divisors, m)
            : (kUsualLow + points[0].second * (kUsualHigh - kUsualLow)) * kTurn / points[0].first;
    return try_limits(kUsualLow, kUsualHigh, known > 0 ? known : context);
  }
  Line line;
  line.slope =
      (points.front().second - points.back().second) / (points.front().first - points.back().first);
  line.offset = line.slope * points.front().first - points.front().second;
  const double per_turn = kTurn * line.slope;  // context over the width between the limits
  if (known > 0) {
    const double width = known / per_turn;
    return try_limits(line.offset * width, (line.offset + 1) * width, known);
  }
  return try_limits(kUsualLow, kUsualHigh, (kUsualHigh - kUsualLow) * per_turn) ||
         try_limits(1, 1 + 1 / line.offset, per_turn / line.offset);
}

}  // namespace braid
