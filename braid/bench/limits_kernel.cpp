#include "braid/bench/limits_kernel.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "braid/bench/limits_kernel.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace braid::HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

double burn(int64_t rounds, float* sink) {
  const hn::ScalableTag<float> d;
  // From memory, so that the compiler cannot know the chains' fixed point; the values keep every
  // chain finite and normal however long it runs. Twelve chains cover latency 4 to 5 on two units
  // and leave AVX2's sixteen registers room for the operands.
  const auto a = hn::Set(d, sink[0]);
  const auto b = hn::Set(d, sink[1]);
  auto c0 = hn::Iota(d, 0.0f), c1 = hn::Iota(d, 1.0f), c2 = hn::Iota(d, 2.0f);
  auto c3 = hn::Iota(d, 3.0f), c4 = hn::Iota(d, 4.0f), c5 = hn::Iota(d, 5.0f);
  auto c6 = hn::Iota(d, 6.0f), c7 = hn::Iota(d, 7.0f), c8 = hn::Iota(d, 8.0f);
  auto c9 = hn::Iota(d, 9.0f), c10 = hn::Iota(d, 10.0f), c11 = hn::Iota(d, 11.0f);
  for (int64_t i = 0; i < rounds; ++i) {
    c0 = hn::MulAdd(c0, a, b);
    c1 = hn::MulAdd(c1, a, b);
    c2 = hn::MulAdd(c2, a, b);
    c3 = hn::MulAdd(c3, a, b);
    c4 = hn::MulAdd(c4, a, b);
    c5 = hn::MulAdd(c5, a, b);
    c6 = hn::MulAdd(c6, a, b);
    c7 = hn::MulAdd(c7, a, b);
    c8 = hn::MulAdd(c8, a, b);
    c9 = hn::MulAdd(c9, a, b);
    c10 = hn::MulAdd(c10, a, b);
    c11 = hn::MulAdd(c11, a, b);
  }
  const auto s0 = hn::Add(hn::Add(c0, c1), hn::Add(c2, c3));
  const auto s1 = hn::Add(hn::Add(c4, c5), hn::Add(c6, c7));
  const auto s2 = hn::Add(hn::Add(c8, c9), hn::Add(c10, c11));
  sink[2] = hn::GetLane(hn::SumOfLanes(d, hn::Add(s0, hn::Add(s1, s2))));
  return static_cast<double>(rounds) * 12 * 2 * static_cast<double>(hn::Lanes(d));
}

float read(const float* HWY_RESTRICT x, int64_t n) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  auto s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
  int64_t i = 0;
  for (; i + 4 * lanes <= n; i += 4 * lanes) {
    s0 = hn::Add(s0, hn::LoadU(d, x + i));
    s1 = hn::Add(s1, hn::LoadU(d, x + i + lanes));
    s2 = hn::Add(s2, hn::LoadU(d, x + i + 2 * lanes));
    s3 = hn::Add(s3, hn::LoadU(d, x + i + 3 * lanes));
  }
  float sum = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
  for (; i < n; ++i) sum += x[i];
  return sum;
}

void scale(float* HWY_RESTRICT x, int64_t n, float by) {
  const hn::ScalableTag<float> d;
  const int64_t lanes = static_cast<int64_t>(hn::Lanes(d));
  const auto factor = hn::Set(d, by);
  int64_t i = 0;
  for (; i + 2 * lanes <= n; i += 2 * lanes) {
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i), factor), d, x + i);
    hn::StoreU(hn::Mul(hn::LoadU(d, x + i + lanes), factor), d, x + i + lanes);
  }
  for (; i < n; ++i) x[i] *= by;
}

const char* target() { return hwy::TargetName(HWY_TARGET); }

}  // namespace braid::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace braid {

HWY_EXPORT(burn);
HWY_EXPORT(read);
HWY_EXPORT(scale);
HWY_EXPORT(target);

double burn_multiply_adds(int64_t rounds, float* sink) {
  return HWY_DYNAMIC_DISPATCH(burn)(rounds, sink);
}

float read_all(const float* x, int64_t n) { return HWY_DYNAMIC_DISPATCH(read)(x, n); }

void scale_in_place(float* x, int64_t n, float by) { HWY_DYNAMIC_DISPATCH(scale)(x, n, by); }

const char* vector_target() { return HWY_DYNAMIC_DISPATCH(target)(); }

bool dot_products() { return (hwy::SupportedTargets() & HWY_AVX3_DL) != 0; }

}  // namespace braid
#endif
