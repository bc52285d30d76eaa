#pragma once
// Counter-based random numbers (Philox 4x32-10, Salmon et al., SC 2011): the value is a pure
// function of (seed, stream, index), so any use can be replayed, split and resumed without hidden
// state.

#include <cstdint>
#include <string_view>

namespace braid {

class Rng {
 public:
  Rng() = default;
  Rng(uint64_t seed, uint64_t stream) : seed_(seed), stream_(stream) {}
  // A stream named by its use ("init/layers.3.q_proj", "data/epoch"), independent of all others.
  Rng(uint64_t seed, std::string_view use);

  uint64_t bits(uint64_t index) const;               // 64 random bits
  double uniform(uint64_t index) const;              // in [0, 1)
  double normal(uint64_t index) const;               // N(0, 1), Box-Muller
  uint64_t below(uint64_t index, uint64_t n) const;  // in [0, n), n > 0

 private:
  uint64_t seed_ = 0;
  uint64_t stream_ = 0;
};

}  // namespace braid
