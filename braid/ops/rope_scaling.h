#pragma once
// How checkpoints stretch rotary angles to contexts longer than they were trained on: other
// frequencies, and a factor on cosines and sines (specs/attention-and-experts.md 3.2).

#include <cstdint>
#include <string_view>
#include <vector>

namespace braid {

struct RopeScaling {
  enum class Kind { kNone, kLinear, kDynamic, kLlama3, kYarn, kLongrope };
  Kind kind = Kind::kNone;
  double factor = 1;
  double original = 0;          // positions trained on; dynamic: positions without scaling
  double low = 1, high = 4;     // llama3: original / wavelength below and above which bands end
  double fast = 32, slow = 1;   // yarn: turns over `original` that bound the ramp
  bool truncate = true;         // yarn: the ramp's bounds are rounded outwards
  double attention_factor = 1;  // of cosines and sines
  std::vector<double> short_factors, long_factors;  // longrope, per pair; long past `original`

  // Frequencies depend on how long the sequence is.
  bool by_length() const { return kind == Kind::kDynamic || kind == Kind::kLongrope; }
};

// One word, fields apart by ':', for `rotary` turning channels:
//   none, linear:F, dynamic:F:MAX_POSITIONS, llama3:F:LOW:HIGH:ORIGINAL,
//   yarn:F:ORIGINAL:FAST:SLOW:TRUNCATE:ATTENTION_FACTOR,
//   longrope:ORIGINAL:ATTENTION_FACTOR:short factor of each pair:long factor of each pair
// Throws Error(kUsage) that begins with `layer`.
RopeScaling parse_rope_scaling(std::string_view layer, std::string_view text, int64_t rotary);

// Radians per position of every pair, in a sequence of `length` tokens.
std::vector<double> rope_frequencies(const RopeScaling& scaling, double theta, int64_t rotary,
                                     int64_t length);

}  // namespace braid
