// The definition's backward pass against derivatives of its forward pass by the complex step.

#include "braid/kernels/delta/delta_ref.h"

#include <doctest/doctest.h>

#include <vector>

#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;

constexpr int64_t kTokens = 5, kKeys = 3, kValues = 2;

struct Case {
  const char* name;
  DeltaDecay decay;
  DeltaErase erase;
  bool vector_gate;
  int64_t micro_steps;
};

// All operands, one behind the other, so that one complex step can reach each number.
template <typename T>
struct Packed {
  std::vector<T> all;
  int64_t used = 0;
  DeltaHead<T> head;
  int64_t initial = 0;

  DeltaRows<const T> take(int64_t rows, int64_t width) {
    const T* at = all.data() + used;
    used += rows * width;
    return {at, width};
  }
  Packed(const Case& c, std::span<const T> values) : all(values.begin(), values.end()) {
    const int64_t steps = kTokens * c.micro_steps;
    head.tokens = kTokens;
    head.micro_steps = c.micro_steps;
    head.key_dim = kKeys;
    head.value_dim = kValues;
    head.decay = c.decay;
    head.erase = c.erase;
    head.scale = T(0.7);
    head.q = take(kTokens, kKeys);
    head.k = take(steps, kKeys);
    head.v = take(steps, kValues);
    if (c.decay != DeltaDecay::kNone)
      head.g = take(kTokens, c.decay == DeltaDecay::kVector ? kKeys : 1);
    if (c.erase == DeltaErase::kBeta || c.erase == DeltaErase::kKey) head.beta = take(steps, 1);
    if (c.erase == DeltaErase::kVector || c.erase == DeltaErase::kPair) head.b = take(steps, kKeys);
    if (c.vector_gate) head.w = take(steps, kValues);
    if (c.erase == DeltaErase::kKey || c.erase == DeltaErase::kPair) head.p = take(steps, kKeys);
    initial = used;
    used += kKeys * kValues;
  }
};

// The loss sum(d_o o) + sum(d_final final) with these weights.
double weight(int64_t i) {
  return 0.3 + 0.1 * static_cast<double>(i % 7) - 0.05 * static_cast<double>(i % 3);
}

Complex loss(const Case& c, std::span<const Complex> values) {
  Packed<Complex> x(c, values);
  std::vector<Complex> state(x.all.begin() + x.initial, x.all.end()), o(kTokens * kValues);
  delta_ref_forward(x.head, state.data(), {o.data(), kValues});
  Complex sum = 0;
  for (size_t i = 0; i < o.size(); ++i) sum += weight(static_cast<int64_t>(i)) * o[i];
  for (size_t i = 0; i < state.size(); ++i) sum += weight(static_cast<int64_t>(i) + 3) * state[i];
  return sum;
}

}  // namespace

TEST_CASE("gradients of the recurrence's definition are its derivatives") {
  const Case cases[] = {{"linear attention", DeltaDecay::kNone, DeltaErase::kNone, false, 1},
                        {"gla", DeltaDecay::kVector, DeltaErase::kNone, false, 1},
                        {"gdn", DeltaDecay::kScalar, DeltaErase::kBeta, false, 1},
                        {"kda", DeltaDecay::kVector, DeltaErase::kBeta, false, 1},
                        {"gdn2", DeltaDecay::kVector, DeltaErase::kVector, true, 1},
                        {"comba", DeltaDecay::kScalar, DeltaErase::kKey, false, 1},
                        {"comba per channel", DeltaDecay::kVector, DeltaErase::kKey, false, 2},
                        {"deltaproduct", DeltaDecay::kScalar, DeltaErase::kBeta, false, 3},
                        {"rwkv7", DeltaDecay::kVector, DeltaErase::kPair, false, 1}};
  for (const Case& c : cases) {
    CAPTURE(c.name);
    const int64_t count = Packed<double>(c, std::vector<double>(1000)).used;
    std::vector<double> values(static_cast<size_t>(count));
    const Rng rng(5, "delta_ref");
    // Negative numbers: decays as they are, signs of the rest do not matter.
    for (size_t i = 0; i < values.size(); ++i) values[i] = -std::abs(0.6 * rng.normal(i));
    const std::vector<double> expected =
        testing::complex_step(values, [&](std::span<const Complex> x) { return loss(c, x); });

    Packed<double> x(c, std::span<const double>(values));
    std::vector<double> got(values.size(), 0.0), d_o(kTokens * kValues), carry(kKeys * kValues);
    for (size_t i = 0; i < d_o.size(); ++i) d_o[i] = weight(static_cast<int64_t>(i));
    for (size_t i = 0; i < carry.size(); ++i) carry[i] = weight(static_cast<int64_t>(i) + 3);
    const auto grad_of = [&](const DeltaRows<const double>& rows) {
      return rows ? DeltaRows<double>{got.data() + (rows.data - x.all.data()), rows.stride}
                  : DeltaRows<double>{};
    };
    const DeltaHead<double>& h = x.head;
    const DeltaHeadGrads<double> grads{grad_of(h.q),    grad_of(h.k), grad_of(h.v), grad_of(h.g),
                                       grad_of(h.beta), grad_of(h.b), grad_of(h.w), grad_of(h.p)};
    delta_ref_backward<double>(h, x.all.data() + x.initial, {d_o.data(), kValues}, carry.data(),
                               grads);
    std::copy(carry.begin(), carry.end(), got.begin() + x.initial);
    CHECK(testing::worst_error(got, expected) <= 1e-13);
  }
}

}  // namespace braid
