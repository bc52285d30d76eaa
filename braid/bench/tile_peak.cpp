#include "braid/bench/tile_peak.h"

#include "braid/kernels/simd/amx.h"

namespace braid {
namespace {

constexpr int kRows = 16, kRowBytes = 64;

constexpr AmxShapes kShapes = [] {
  AmxShapes s;
  for (int t = 0; t < 8; ++t) s.rows[t] = kRows, s.row_bytes[t] = kRowBytes;
  return s;
}();

// Sums of zeros: the speed does not depend on the numbers. `multiply` is four products, into tiles
// 0 to 3.
template <typename Multiply>
void burn(int64_t rounds, Multiply multiply) {
  amx_begin(kShapes);
  amx_zero<0>();
  amx_zero<1>();
  amx_zero<2>();
  amx_zero<3>();
  amx_zero<4>();
  amx_zero<5>();
  for (int64_t i = 0; i < rounds; ++i) multiply();
  amx_end();
}

// Of a product of tiles whose rows hold `depth` numbers.
constexpr double operations(int depth) { return 2.0 * kRows * kRows * depth; }

}  // namespace

double burn_bf16_tiles(int64_t rounds) {
  burn(rounds, [] {
    amx_bf16<0, 4, 5>();
    amx_bf16<1, 4, 5>();
    amx_bf16<2, 4, 5>();
    amx_bf16<3, 4, 5>();
  });
  return 4 * operations(kRowBytes / 2) * static_cast<double>(rounds);
}

double burn_int8_tiles(int64_t rounds) {
  burn(rounds, [] {
    amx_int8<0, 4, 5>();
    amx_int8<1, 4, 5>();
    amx_int8<2, 4, 5>();
    amx_int8<3, 4, 5>();
  });
  return 4 * operations(kRowBytes) * static_cast<double>(rounds);
}

}  // namespace braid
