#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/kernels/attention/decays_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include "braid/kernels/attention/decays.h"
#include "braid/kernels/attention/tiles.h"

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {
namespace {  // other kernel families use the same short names

namespace hn = hwy::HWY_NAMESPACE;
using D64 = hn::CappedTag<double, 8>;

void differences(const double* HWY_RESTRICT row, int64_t rows, const double* HWY_RESTRICT column,
                 float sign, float* HWY_RESTRICT scores) {
  const D64 d;
  const hn::Rebind<float, D64> df;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto f = hn::Set(df, sign);
  for (int64_t r = 0; r < rows; ++r, scores += kKvTile) {
    const auto from = hn::Set(d, row[r]);
    for (int64_t c = 0; c < kKvTile; c += lanes) {
      const auto difference = hn::DemoteTo(df, hn::Sub(from, hn::LoadU(d, column + c)));
      hn::StoreU(hn::MulAdd(f, difference, hn::LoadU(df, scores + c)), df, scores + c);
    }
  }
}

void row_sums(const float* HWY_RESTRICT tile, double* HWY_RESTRICT to) {
  const hn::CappedTag<float, 16> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  for (int64_t r = 0; r < kKvTile; ++r, tile += kKvTile) {
    auto sum = hn::LoadU(d, tile);
    for (int64_t c = lanes; c < kKvTile; c += lanes) sum = hn::Add(sum, hn::LoadU(d, tile + c));
    to[r] += static_cast<double>(hn::GetLane(hn::SumOfLanes(d, sum)));
  }
}

}  // namespace
}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(differences);
HWY_EXPORT(row_sums);

double cumulate_decays(const float* log_f, int64_t ld, int64_t tokens, double before, double* to) {
  constexpr double kLog2E = 1.44269504088896340736;
  for (int64_t t = 0; t < tokens; ++t) {
    before += kLog2E * static_cast<double>(log_f[t * ld]);
    const double high = static_cast<float>(before);
    before = high + static_cast<double>(static_cast<float>(before - high));
    to[t] = before;
  }
  return before;
}

void add_decay_differences(const double* row, int64_t rows, const double* column, float sign,
                           float* scores) {
  HWY_DYNAMIC_DISPATCH(differences)(row, rows, column, sign, scores);
}

void add_row_sums(const float* tile, double* to) { HWY_DYNAMIC_DISPATCH(row_sums)(tile, to); }

void decay_gradient(const double* of_keys, int64_t length, float* d_log_f, int64_t ld) {
  double sum = 0;
  for (int64_t t = length - 1; t >= 0; --t) {
    sum -= of_keys[t];
    d_log_f[t * ld] = static_cast<float>(sum);
  }
}

}  // namespace braid
#endif
