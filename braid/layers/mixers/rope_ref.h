#pragma once
// The definition of rotary positions and their scalings (specs/attention-and-experts.md 3), one
// angle at a time, for the references of mixers that have them.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

#include "braid/ops/rope_scaling.h"

namespace braid::ref {

// Radians per position of pair i of `rotary` / 2, in a sequence of `length` tokens.
inline double rope_rate(const RopeScaling& s, double base, int64_t rotary, int64_t i,
                        int64_t length) {
  using Kind = RopeScaling::Kind;
  const double pi = std::numbers::pi, r = static_cast<double>(rotary);
  const bool beyond = static_cast<double>(length) > s.original;
  if (s.kind == Kind::kDynamic && beyond) {
    base *=
        std::pow(s.factor * static_cast<double>(length) / s.original - (s.factor - 1), r / (r - 2));
  }
  const double rate = 1 / std::pow(base, 2 * static_cast<double>(i) / r);
  if (s.kind == Kind::kLinear) return rate / s.factor;
  if (s.kind == Kind::kLongrope)
    return rate / (beyond ? s.long_factors : s.short_factors)[static_cast<size_t>(i)];
  if (s.kind == Kind::kLlama3) {
    const double wave = 2 * pi / rate;
    if (wave < s.original / s.high) return rate;
    if (wave > s.original / s.low || s.low == s.high) return rate / s.factor;
    const double u = (s.original / wave - s.low) / (s.high - s.low);
    return (1 - u) * rate / s.factor + u * rate;
  }
  if (s.kind == Kind::kYarn) {
    double lo = r * std::log(s.original / (s.fast * 2 * pi)) / (2 * std::log(base));
    double hi = r * std::log(s.original / (s.slow * 2 * pi)) / (2 * std::log(base));
    if (s.truncate) {
      lo = std::floor(lo);
      hi = std::ceil(hi);
    }
    lo = std::max(lo, 0.0);
    hi = std::min(hi, r - 1);
    if (lo == hi) hi += 0.001;
    const double ramp = std::min(1.0, std::max(0.0, (static_cast<double>(i) - lo) / (hi - lo)));
    return rate / s.factor * ramp + rate * (1 - ramp);
  }
  return rate;
}

// Turns the first `rotary` channels of a head at `position` of a sequence of `length` tokens.
template <typename Number>
void rotate(const RopeScaling& s, double base, int64_t rotary, bool interleaved, int64_t position,
            int64_t length, Number* head) {
  for (int64_t i = 0; i < rotary / 2; ++i) {
    const double angle = static_cast<double>(position) * rope_rate(s, base, rotary, i, length);
    Number& a = head[interleaved ? 2 * i : i];
    Number& b = head[interleaved ? 2 * i + 1 : i + rotary / 2];
    const Number x = a, y = b;
    a = s.attention_factor * (x * std::cos(angle) - y * std::sin(angle));
    b = s.attention_factor * (y * std::cos(angle) + x * std::sin(angle));
  }
}

}  // namespace braid::ref
