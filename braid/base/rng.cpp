#include "braid/base/rng.h"

#include <cmath>

#include "braid/base/hash.h"

namespace braid {
namespace {

struct Block {
  uint32_t x[4];
};

Block philox(uint64_t seed, uint64_t stream, uint64_t index) {
  Block c{{static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32),
           static_cast<uint32_t>(stream), static_cast<uint32_t>(stream >> 32)}};
  uint32_t k0 = static_cast<uint32_t>(seed), k1 = static_cast<uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = uint64_t{0xD2511F53u} * c.x[0];
    const uint64_t p1 = uint64_t{0xCD9E8D57u} * c.x[2];
    c = Block{{static_cast<uint32_t>(p1 >> 32) ^ c.x[1] ^ k0, static_cast<uint32_t>(p1),
               static_cast<uint32_t>(p0 >> 32) ^ c.x[3] ^ k1, static_cast<uint32_t>(p0)}};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return c;
}

double unit(uint64_t bits) { return static_cast<double>(bits >> 11) * 0x1.0p-53; }

}  // namespace

Rng::Rng(uint64_t seed, std::string_view use) : seed_(seed), stream_(fnv1a(use)) {}

uint64_t Rng::bits(uint64_t index) const {
  const Block b = philox(seed_, stream_, index);
  return (uint64_t{b.x[1]} << 32) | b.x[0];
}

double Rng::uniform(uint64_t index) const { return unit(bits(index)); }

double Rng::normal(uint64_t index) const {
  const Block b = philox(seed_, stream_, index);
  const double u1 = 1.0 - unit((uint64_t{b.x[1]} << 32) | b.x[0]);
  const double u2 = unit((uint64_t{b.x[3]} << 32) | b.x[2]);
  return std::sqrt(-2.0 * std::log(u1)) * std::cos(2.0 * M_PI * u2);
}

uint64_t Rng::below(uint64_t index, uint64_t n) const {
  return static_cast<uint64_t>((static_cast<unsigned __int128>(bits(index)) * n) >> 64);
}

}  // namespace braid
