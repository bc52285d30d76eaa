// $BRAID_GOLDEN/ssm, files of kind rwkv6_wkv and rwkv7_wkv: outputs, final states and all
// gradients.

#include <doctest/doctest.h>

#include <functional>

#include "braid/formats/safetensors.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/recurrence.h"
#include "braid/ops/token_shift.h"
#include "braid/ops/wkv.h"
#include "braid/testing/golden.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

constexpr double kOutput = 2e-6, kGradient = 1e-5;  // golden/ssm/README.md

struct Golden {
  explicit Golden(const std::string& path) : file(SafetensorsFile::open(path)) {}
  Tensor given(const std::string& name) const { return file.to_f32(ctx, name); }
  Tensor tokens(const std::string& name) const {
    const Tensor t = given(name);
    return t.reshape({t.size(0) * t.size(1), t.size(2), t.size(3)});
  }
  void check(const std::string& name, const Tensor& got, double tolerance) const {
    const double error = testing::worst_error(testing::values(got), testing::values(given(name)));
    INFO(name, " differs by ", error, " of its largest value");
    CHECK(error <= tolerance);
  }
  std::vector<int64_t> starts() const {
    const Tensor r = given("in.r");
    std::vector<int64_t> s;
    for (int64_t i = 0; i <= r.size(0); ++i) s.push_back(i * r.size(1));
    return s;
  }
  std::vector<float*> blocks(const Tensor& states) const {
    std::vector<float*> b;
    for (int64_t s = 0; s < states.size(0); ++s) b.push_back(states.select(0, s).data());
    return b;
  }

  Context ctx;
  SafetensorsFile file;
};

struct Run {
  Tensor out;
  RecurrenceGrads grads;
};

// Output, final states and the gradients of sum(d_out o) + sum(up.sT sT), all of them of the
// operands as given.
Run run(const Golden& g, const RecurrenceConfig& config, const RecurrenceInputs& in,
        const std::vector<int64_t>& starts, const Tensor& d_out) {
  Run r;
  const Tensor state = g.given("in.s0");
  RecurrenceSaved saved;
  r.out = recurrence_forward(g.ctx, config, in, starts, g.blocks(state), &saved);
  g.check("out.sT", state, kOutput);
  r.grads = recurrence_backward(g.ctx, config, in, starts, saved, d_out, g.given("up.sT"));
  g.check("grad.s0", r.grads.initial_states, kGradient);
  return r;
}

// The gradient of what op makes of x, given that of its result.
Tensor back_through(const Golden& g, Tensor x, const Tensor& up,
                    const std::function<Tensor(const Context&, const Tensor&)>& op) {
  Tape tape;
  Context train = g.ctx;
  train.tape = &tape;
  tape.watch(x);
  const Tensor y = op(train, x);
  tape.backward(g.ctx, y, up);
  return tape.grad(x);
}

int64_t each_file(const std::string& kind, const std::function<void(const Golden&)>& run) {
  int64_t files = 0;
  for (const std::string& path : testing::golden_files("ssm")) {
    if (SafetensorsFile::open(path).metadata("kind") != kind) continue;
    INFO(path);
    run(Golden(path));
    ++files;
  }
  return files;
}

}  // namespace

TEST_CASE("golden: rwkv6_wkv") {
  const int64_t files = each_file("rwkv6_wkv", [](const Golden& g) {
    Tensor r = g.tokens("in.r"), k = g.tokens("in.k"), v = g.tokens("in.v");
    const Tensor log_w = g.tokens("aux.log_w"), up = g.tokens("up.y");
    Parameter u{"u",
                ParamRole::kVector,
                g.given("in.u"),
                Tensor::zeros(g.ctx, g.given("in.u").shape()),
                {}};
    const std::vector<int64_t> starts = g.starts();
    const auto grown = [&](bool at_end) {
      return [&starts, at_end](const Context& ctx, const Tensor& t) {
        return with_zero_rows(ctx, t, starts, at_end);
      };
    };
    const Run o = run(g, pre_read_recurrence(), pre_read_operands(g.ctx, {r, log_w, k, v}, starts),
                      pre_read_starts(starts), with_zero_rows(g.ctx, up, starts, true));
    Tape tape;
    Context train = g.ctx;
    train.tape = &tape;
    for (Tensor* x : {&r, &k, &v}) tape.watch(*x);
    const Tensor read = without_last_rows(g.ctx, o.out, starts);
    const Tensor y = add_bonus(train, read, r, k, v, u);
    g.check("out.y", y, kOutput);
    tape.backward(g.ctx, y, up);
    const auto sum = [&](const Tensor& a, const Tensor& b) { return add(g.ctx, a, b); };
    g.check("grad.u", u.grad, kGradient);
    g.check("grad.r", sum(tape.grad(r), back_through(g, r, o.grads.q, grown(true))), kGradient);
    g.check("grad.k", sum(tape.grad(k), back_through(g, k, o.grads.k, grown(false))), kGradient);
    g.check("grad.v", sum(tape.grad(v), back_through(g, v, o.grads.v, grown(false))), kGradient);
    g.check("grad.log_w", back_through(g, log_w, o.grads.g, grown(false)), kGradient);
  });
  REQUIRE(files > 0);
}

TEST_CASE("golden: rwkv7_wkv") {
  const int64_t files = each_file("rwkv7_wkv", [](const Golden& g) {
    RecurrenceInputs in;
    in.q = g.tokens("in.r");
    in.g = g.tokens("in.log_w");
    in.k = g.tokens("in.k");
    in.v = g.tokens("in.v");
    in.p = g.tokens("in.a");
    in.b = g.tokens("in.b");
    const RecurrenceConfig config{.decay = RecurrenceConfig::Decay::kVector,
                                  .erase = RecurrenceConfig::Erase::kPair};
    const Run o = run(g, config, in, g.starts(), g.tokens("up.y"));
    g.check("out.y", o.out, kOutput);
    g.check("grad.r", o.grads.q, kGradient);
    g.check("grad.log_w", o.grads.g, kGradient);
    g.check("grad.b", o.grads.b, kGradient);
    g.check("grad.k", o.grads.k, kGradient);
    g.check("grad.a", o.grads.p, kGradient);
    g.check("grad.v", o.grads.v, kGradient);
  });
  REQUIRE(files > 0);
}

}  // namespace braid
