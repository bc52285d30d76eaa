#include "braid/ops/selective_scan.h"

#include <doctest/doctest.h>

#include <cstring>

#include "braid/ops/selective_scan_ref.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::Complex;
using testing::random_parameter;
using testing::random_tensor;
using testing::values;
using testing::worst_error;

struct Subject {
  Context ctx;
  SelectiveScanInputs in;
  Parameter a_log, skip, bias;

  // `reach` scales the step sizes and rates: 8 gives steps from e^-24 to 24 and rates beyond e^8.
  Subject(int64_t tokens, int64_t channels, int64_t states, double reach)
      : in{random_tensor(ctx, {tokens, channels}, "x"),
           random_tensor(ctx, {tokens, channels}, "raw", reach),
           random_tensor(ctx, {tokens, states}, "b"), random_tensor(ctx, {tokens, states}, "c")},
        a_log(random_parameter(ctx, {channels, states}, "a_log", reach / 2)),
        skip(random_parameter(ctx, {channels}, "skip")),
        bias(random_parameter(ctx, {channels}, "bias")) {}
  SelectiveScanParams params() { return {&a_log, &skip, &bias}; }
};

// Rows [begin, end) of an input.
std::vector<Complex> rows(const Tensor& x, int64_t begin, int64_t end) {
  const std::vector<double> v = values(x.narrow(0, begin, end - begin));
  return {v.begin(), v.end()};
}

std::vector<Complex> reference(Subject& s, const std::vector<int64_t>& starts) {
  const auto whole = [](const Parameter& p) {
    const std::vector<double> v = values(p.value);
    return std::vector<Complex>(v.begin(), v.end());
  };
  std::vector<Complex> y;
  for (size_t i = 0; i + 1 < starts.size(); ++i) {
    std::vector<Complex> h(static_cast<size_t>(s.a_log.value.count()));
    const auto part = [&](const Tensor& x) { return rows(x, starts[i], starts[i + 1]); };
    const auto own =
        selective_scan_ref<Complex>(part(s.in.x), part(s.in.raw), part(s.in.b), part(s.in.c),
                                    whole(s.a_log), whole(s.skip), whole(s.bias), h);
    y.insert(y.end(), own.begin(), own.end());
  }
  return y;
}

std::vector<double> real(const std::vector<Complex>& z) {
  std::vector<double> out;
  for (const Complex& v : z) out.push_back(v.real());
  return out;
}

}  // namespace

TEST_CASE("selective scan: odd sizes, ragged sequences, extreme steps and rates") {
  for (const auto& [channels, states] :
       {std::pair<int64_t, int64_t>{5, 1}, {19, 3}, {16, 16}, {131, 4}, {33, 37}}) {
    for (const double reach : {1.0, 8.0}) {
      const std::vector<int64_t> starts = {0, 1, 1, 18, 51};
      Subject s(51, channels, states, reach);
      const Tensor y = selective_scan(s.ctx, s.in, s.params(), starts);
      INFO(channels, " channels, ", states, " states, reach ", reach);
      CHECK(worst_error(y, real(reference(s, starts))) <= 2e-6);
    }
  }
}

// Exact derivatives by the complex step would take minutes; directions by central differences of
// the double-precision definition do not.
TEST_CASE("selective scan: gradients along directions") {
  for (const double reach : {1.0, 6.0}) {
    const std::vector<int64_t> starts = {0, 17, 18, 40};
    Subject s(40, 131, 5, reach);
    const Tensor up = random_tensor(s.ctx, s.in.x.shape(), "up");
    Tensor kept;
    selective_scan_forward(s.ctx, s.in, s.params(), starts, {}, &kept);
    const SelectiveScanGrads g =
        selective_scan_backward(s.ctx, s.in, s.params(), starts, kept, up, Tensor());
    struct Operand {
      const char* name;
      Tensor at, grad;
    };
    for (const Operand& o :
         {Operand{"x", s.in.x, g.x}, Operand{"raw", s.in.raw, g.raw}, Operand{"b", s.in.b, g.b},
          Operand{"c", s.in.c, g.c}, Operand{"A_log", s.a_log.value, s.a_log.grad},
          Operand{"D", s.skip.value, s.skip.grad}, Operand{"dt_bias", s.bias.value, s.bias.grad}}) {
      const Tensor direction = random_tensor(s.ctx, o.at.shape(), o.name);
      const std::vector<float> kept_values(o.at.data(), o.at.data() + o.at.count());
      double along = 0, norm = 0, slope[2], step = 0;
      for (int side = 0; side < 2; ++side) {
        // What f32 makes of the step is what counts.
        std::vector<double> moved;
        for (int64_t i = 0; i < o.at.count(); ++i) {
          const float by = (side == 0 ? 1 : -1) * 1e-3f * direction.data()[i];
          o.at.data()[i] = kept_values[static_cast<size_t>(i)] + by;
        }
        const std::vector<double> y = real(reference(s, starts));
        slope[side] = 0;
        for (size_t i = 0; i < y.size(); ++i) slope[side] += y[i] * up.data()[i];
        std::copy(kept_values.begin(), kept_values.end(), o.at.data());
      }
      step = 1e-3;
      for (int64_t i = 0; i < o.at.count(); ++i) {
        along += static_cast<double>(o.grad.data()[i]) * direction.data()[i];
        norm += static_cast<double>(o.grad.data()[i]) * o.grad.data()[i];
      }
      const double want = (slope[0] - slope[1]) / (2 * step);
      INFO("reach ", reach, ", ", o.name, ": ", along, " for ", want);
      CHECK(std::abs(along - want) <= 1e-3 * std::max(std::abs(want), std::sqrt(norm)));
    }
  }
}

TEST_CASE("selective scan: cut anywhere with a state equals the whole, bit for bit") {
  Subject s(40, 21, 6, 1);
  const std::vector<int64_t> all = {0, 40};
  const Tensor whole = selective_scan(s.ctx, s.in, s.params(), all);
  for (const int64_t cut : {1, 15, 16, 17, 39}) {
    std::vector<float> state(static_cast<size_t>(21 * 6));
    float* const one[] = {state.data()};
    for (const auto& [begin, end] : {std::pair<int64_t, int64_t>{0, cut}, {cut, 40}}) {
      const auto part = [&, b = begin, n = end - begin](const Tensor& x) {
        return x.narrow(0, b, n);
      };
      const SelectiveScanInputs in{part(s.in.x), part(s.in.raw), part(s.in.b), part(s.in.c)};
      const std::vector<int64_t> starts = {0, end - begin};
      const Tensor y = selective_scan(s.ctx, in, s.params(), starts, one);
      CHECK(std::memcmp(y.data(), whole.data() + begin * 21, y.bytes()) == 0);
    }
  }
}

}  // namespace braid
