#pragma once
// Llama 3's position scaling as the divisors of its frequencies, which is how GGUF files keep it.

#include <cmath>
#include <numbers>
#include <vector>

#include "braid/importers/gguf_model.h"

namespace braid {

constexpr int64_t kLlama3Context = 8192;

// One divisor for every pair of channels: 1 for short waves, the factor for long ones, between them
// a blend of the two frequencies.
inline std::vector<double> llama3_divisors(const GgufModel& m) {
  std::vector<double> out;
  const double context = static_cast<double>(m.original_context);
  for (int64_t i = 0; i < m.head_dim / 2; ++i) {
    const double frequency =
        std::pow(m.theta, -2.0 * static_cast<double>(i) / static_cast<double>(m.head_dim));
    const double turns = context * frequency / (2 * std::numbers::pi);
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

}  // namespace braid
