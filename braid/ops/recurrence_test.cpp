// The recurrence in f32, by steps and by chunks, against its definition in double
// (kernels/delta/delta_ref.h).

#include "braid/ops/recurrence.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "braid/kernels/delta/delta_ref.h"
#include "braid/testing/numeric.h"

namespace braid {
namespace {

using testing::random_tensor;
using testing::worst_error;
using Decay = RecurrenceConfig::Decay;
using Erase = RecurrenceConfig::Erase;

// f32 sums over a chunk and a state against double, as in specs/linear-recurrences.md section 11;
// gradients of decays sum what largely cancels.
constexpr double kTolerance = 1e-5;
constexpr double kDecayTolerance = 5e-5;

struct Form {
  const char* name;
  Decay decay;
  Erase erase;
  bool vector_gate = false;
  int64_t micro_steps = 1;
};

const Form kForms[] = {{"linear attention", Decay::kNone, Erase::kNone},
                       {"lightning", Decay::kPerHead, Erase::kNone},
                       {"simple gla", Decay::kScalar, Erase::kNone},
                       {"gla", Decay::kVector, Erase::kNone},
                       {"deltanet", Decay::kNone, Erase::kBeta},
                       {"gdn", Decay::kScalar, Erase::kBeta},
                       {"kda", Decay::kVector, Erase::kBeta},
                       {"gdn2", Decay::kVector, Erase::kVector, true},
                       {"comba", Decay::kScalar, Erase::kKey},
                       {"comba per channel", Decay::kVector, Erase::kKey},
                       {"deltaproduct", Decay::kScalar, Erase::kBeta, false, 2},
                       {"kda by three micro-steps", Decay::kVector, Erase::kBeta, false, 3},
                       {"rwkv7", Decay::kVector, Erase::kPair}};

struct Sizes {
  int64_t heads = 1, value_heads = 2, key_dim = 20, value_dim = 24;
};

struct Problem {
  Context ctx;
  RecurrenceConfig config;
  RecurrenceInputs in;
  Sizes n;
  std::vector<int64_t> starts;
  Tensor initial, d_out, d_final;

  int64_t sequences() const { return static_cast<int64_t>(starts.size()) - 1; }
};

// Uniform in [low, high).
Tensor uniform(const Context& ctx, Shape shape, const char* use, double low, double high) {
  Tensor t = random_tensor(ctx, shape, use);
  for (int64_t i = 0; i < t.count(); ++i) {
    t.data()[i] =
        static_cast<float>(low + (high - low) * 0.5 * std::erfc(-t.data()[i] / std::sqrt(2.0)));
  }
  return t;
}

// strongest: the decays are uniform in [strongest, 0].
Problem make(const Form& form, std::vector<int64_t> starts, const Sizes& n = {},
             double strongest = -0.4) {
  Problem p;
  p.n = n;
  p.starts = std::move(starts);
  p.config = {form.decay, form.erase, form.micro_steps, 0.3f};
  const Context& ctx = p.ctx;
  const int64_t tokens = p.starts.back(), steps = tokens * form.micro_steps;
  const double key = std::sqrt(1.0 / static_cast<double>(n.key_dim));
  p.in.q = random_tensor(ctx, {tokens, n.heads, n.key_dim}, "q", key);
  p.in.k = random_tensor(ctx, {steps, n.heads, n.key_dim}, "k", key);
  p.in.v = random_tensor(ctx, {steps, n.value_heads, n.value_dim}, "v");
  if (form.decay == Decay::kPerHead) p.in.g = uniform(ctx, {n.value_heads}, "g", strongest, 0);
  if (form.decay == Decay::kScalar)
    p.in.g = uniform(ctx, {tokens, n.value_heads}, "g", strongest, 0);
  if (form.decay == Decay::kVector)
    p.in.g = uniform(ctx, {tokens, n.value_heads, n.key_dim}, "g", strongest, 0);
  const bool beta = form.erase == Erase::kBeta || form.erase == Erase::kKey;
  if (beta) p.in.beta = uniform(ctx, {steps, n.value_heads}, "beta", 0, 1);
  if (form.erase == Erase::kVector)
    p.in.b = uniform(ctx, {steps, n.value_heads, n.key_dim}, "b", 0, 1);
  if (form.vector_gate) p.in.w = uniform(ctx, {steps, n.value_heads, n.value_dim}, "w", 0, 1);
  if (form.erase == Erase::kPair)
    p.in.b = random_tensor(ctx, {steps, n.heads, n.key_dim}, "b", 0.5 * key);
  if (form.erase == Erase::kKey || form.erase == Erase::kPair)
    p.in.p = random_tensor(ctx, {steps, n.heads, n.key_dim}, "p", key);
  const Shape state{p.sequences(), n.value_heads, n.key_dim, n.value_dim};
  p.initial = random_tensor(ctx, state, "initial", 0.3);
  p.d_out = random_tensor(ctx, {tokens, n.value_heads, n.value_dim}, "d_out");
  p.d_final = random_tensor(ctx, state, "d_final", 0.3);
  return p;
}

struct Result {
  Tensor out, final_states;
  RecurrenceGrads grads;
};

Tensor copy(const Context& ctx, const Tensor& t) {
  return Tensor::from(ctx, t.shape(), {t.data(), static_cast<size_t>(t.count())});
}

std::vector<float*> blocks(const Tensor& states) {
  std::vector<float*> b;
  for (int64_t s = 0; s < states.size(0); ++s) b.push_back(states.select(0, s).data());
  return b;
}

Result run(const Problem& p) {
  Result r;
  r.final_states = copy(p.ctx, p.initial);
  RecurrenceSaved saved;
  r.out = recurrence_forward(p.ctx, p.config, p.in, p.starts, blocks(r.final_states), &saved);
  r.grads = recurrence_backward(p.ctx, p.config, p.in, p.starts, saved, p.d_out, p.d_final);
  return r;
}

// The same in double, one value head at a time. Tensors as vectors in their own layout.
struct Expected {
  std::vector<double> out, final_states, initial, q, k, v, g, beta, b, w, p;
};

std::vector<double> zeros(const Tensor& t) {
  return std::vector<double>(t.defined() ? static_cast<size_t>(t.count()) : 0);
}

Expected reference(const Problem& p) {
  const RecurrenceInputs& in = p.in;
  Expected e{zeros(p.d_out),
             testing::values(p.initial),
             testing::values(p.d_final),
             zeros(in.q),
             zeros(in.k),
             zeros(in.v),
             zeros(in.g),
             zeros(in.beta),
             zeros(in.b),
             zeros(in.w),
             zeros(in.p)};
  const int64_t hv = p.n.value_heads, kd = p.n.key_dim, vd = p.n.value_dim,
                m = p.config.micro_steps;
  const auto doubles = [](const Tensor& t) {
    return t.defined() ? testing::values(t) : std::vector<double>();
  };
  const std::vector<double> q = doubles(in.q), k = doubles(in.k), v = doubles(in.v),
                            g = doubles(in.g), beta = doubles(in.beta), b = doubles(in.b),
                            w = doubles(in.w), pk = doubles(in.p), initial = doubles(p.initial),
                            d_out = doubles(p.d_out);
  for (int64_t s = 0; s < p.sequences(); ++s) {
    for (int64_t j = 0; j < hv; ++j) {
      const int64_t first = p.starts[s];
      // Rows of value head j; an operand of `heads` heads is shared by the group.
      const auto rows = [&](auto& x, int64_t row, int64_t heads, int64_t width) {
        using T = std::remove_reference_t<decltype(x[0])>;
        return x.empty()
                   ? DeltaRows<T>{}
                   : DeltaRows<T>{x.data() + (row * heads + j * heads / hv) * width, heads * width};
      };
      const auto all = [&](auto& x) {
        using T = std::remove_reference_t<decltype(x.q[0])>;
        DeltaHeadGrads<T> r;
        const bool vector = p.config.decay == Decay::kVector;
        r.q = rows(x.q, first, p.n.heads, kd);
        r.k = rows(x.k, first * m, p.n.heads, kd);
        r.v = rows(x.v, first * m, hv, vd);
        r.g = rows(x.g, p.config.decay == Decay::kPerHead ? 0 : first, hv, vector ? kd : 1);
        if (p.config.decay == Decay::kPerHead) r.g.stride = 0;
        r.beta = rows(x.beta, first * m, hv, 1);
        r.b = rows(x.b, first * m, p.config.erase == Erase::kPair ? p.n.heads : hv, kd);
        r.w = rows(x.w, first * m, hv, vd);
        r.p = rows(x.p, first * m, p.n.heads, kd);
        return r;
      };
      const struct {
        const std::vector<double>&q, &k, &v, &g, &beta, &b, &w, &p;
      } values{q, k, v, g, beta, b, w, pk};
      const DeltaHeadGrads<const double> x = all(values);
      DeltaHead<double> h;
      h.tokens = p.starts[s + 1] - first;
      h.micro_steps = m;
      h.key_dim = kd;
      h.value_dim = vd;
      h.decay = p.config.decay == Decay::kNone     ? DeltaDecay::kNone
                : p.config.decay == Decay::kVector ? DeltaDecay::kVector
                                                   : DeltaDecay::kScalar;
      h.erase = static_cast<DeltaErase>(p.config.erase);
      h.scale = p.config.scale;
      h.q = x.q;
      h.k = x.k;
      h.v = x.v;
      h.g = x.g;
      h.beta = x.beta;
      h.b = x.b;
      h.w = x.w;
      h.p = x.p;
      const int64_t state = (s * hv + j) * kd * vd;
      delta_ref_forward(h, e.final_states.data() + state,
                        {e.out.data() + (first * hv + j) * vd, hv * vd});
      delta_ref_backward<double>(h, initial.data() + state,
                                 {d_out.data() + (first * hv + j) * vd, hv * vd},
                                 e.initial.data() + state, all(e));
    }
  }
  return e;
}

void check(const char* name, const Tensor& got, const std::vector<double>& want, double tolerance) {
  if (!got.defined()) return;
  const double error = worst_error(got, want);
  INFO(name, " differs by ", error, " of its largest value");
  CHECK(error <= tolerance);
}

void check_all(const Problem& p, double tolerance = kTolerance,
               double decay_tolerance = kDecayTolerance) {
  const Result r = run(p);
  const Expected e = reference(p);
  check("out", r.out, e.out, tolerance);
  check("final states", r.final_states, e.final_states, tolerance);
  check("grad initial states", r.grads.initial_states, e.initial, tolerance);
  check("grad q", r.grads.q, e.q, tolerance);
  check("grad k", r.grads.k, e.k, tolerance);
  check("grad v", r.grads.v, e.v, tolerance);
  check("grad g", r.grads.g, e.g, decay_tolerance);
  check("grad beta", r.grads.beta, e.beta, tolerance);
  check("grad b", r.grads.b, e.b, tolerance);
  check("grad w", r.grads.w, e.w, tolerance);
  check("grad p", r.grads.p, e.p, tolerance);
}

bool same(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  return testing::values(a) == testing::values(b);
}

}  // namespace

TEST_CASE("recurrence: every form agrees with the definition, ragged and grouped") {
  for (const Form& form : kForms) {
    CAPTURE(form.name);
    check_all(make(form, {0, 70, 70, 71, 104}));
    Sizes grouped{2, 6, 16, 32};
    check_all(make(form, {0, 37}, grouped));
    // More heads of a group than one task takes, and groups that a task takes together.
    check_all(make(form, {0, 5, 40}, Sizes{2, 12, 16, 16}));
    check_all(make(form, {0, 40}, Sizes{8, 16, 16, 16}));
    check_all(make(form, {0, 40}, Sizes{9, 9, 16, 16}));  // a last task of fewer
  }
}

TEST_CASE("recurrence: lengths around chunks, and every chunk size") {
  for (const Form& form : {kForms[5], kForms[6], kForms[1], kForms[12]}) {
    CAPTURE(form.name);
    for (const int64_t length : {1, 2, 15, 16, 17, 63, 64, 65, 300}) {
      CAPTURE(length);
      check_all(make(form, {0, length}));
    }
    Problem p = make(form, {0, 1000}, Sizes{1, 1, 16, 16});
    for (const int64_t chunk : {16, 32, 48, 64}) {
      CAPTURE(chunk);
      p.config.chunk = chunk;
      check_all(p);
    }
  }
}

TEST_CASE("recurrence: head sizes that are no multiple of a vector, and wide ones") {
  for (const Form& form : {kForms[6], kForms[7], kForms[12], kForms[2]}) {
    for (const Sizes n : {Sizes{1, 1, 3, 5}, Sizes{1, 1, 128, 136}, Sizes{1, 1, 144, 8}}) {
      check_all(make(form, {0, 40}, n));
    }
  }
}

TEST_CASE("recurrence: strong decays neither overflow nor lose the weak ones") {
  for (const Form& form :
       {kForms[1], kForms[2], kForms[3], kForms[5], kForms[6], kForms[8], kForms[9], kForms[12]}) {
    CAPTURE(form.name);
    // Gradients of decays: 2e-4 where they are strong (specs/linear-recurrences.md section 11).
    check_all(make(form, {0, 100}, {}, -60.0), kTolerance, 2e-4);
    // Chunks that decay by more than their rows carry, of blocks that do not.
    Problem blocks = make(form, {0, 150}, {}, -3.5);
    for (const int64_t chunk : {32, 64}) {
      blocks.config.chunk = chunk;
      check_all(blocks, kTolerance, 2e-4);
    }
    Problem mixed = make(form, {0, 100}, {}, -1.0);
    for (int64_t i = 0; i < mixed.in.g.count(); ++i) {
      if (i % 5 == 0) mixed.in.g.data()[i] = -1e4f;
      if (i % 5 == 1) mixed.in.g.data()[i] = 0.0f;
    }
    check_all(mixed, kTolerance, 2e-4);
    for (int64_t i = 0; i < mixed.in.g.count(); ++i) mixed.in.g.data()[i] = -HUGE_VALF;
    const Result r = run(mixed);
    for (const Tensor& t : {r.out, r.final_states, r.grads.k, r.grads.g})
      CHECK(worst_error(t, t) == 0);
    for (int64_t i = 0; i < mixed.in.g.count(); ++i) mixed.in.g.data()[i] = 0.0f;
    check_all(mixed);
  }
}

TEST_CASE("recurrence: a NaN decay does not pass for a number, in a chunk or a step") {
  for (const Form& form : kForms) {
    if (form.decay == Decay::kNone || form.decay == Decay::kPerHead) continue;
    CAPTURE(form.name);
    for (const int64_t length : {1, 40}) {
      CAPTURE(length);
      Problem p = make(form, {0, length});
      for (int64_t i = 0; i < p.in.g.count(); ++i) p.in.g.data()[i] = std::nanf("");
      Tensor state = copy(p.ctx, p.initial);
      const Tensor out =
          recurrence_forward(p.ctx, p.config, p.in, p.starts, blocks(state), nullptr);
      for (int64_t i = 0; i < out.count(); ++i) CHECK(std::isnan(out.data()[i]));
    }
  }
}

TEST_CASE("recurrence: steps, chunks and cuts give the same") {
  for (const Form& form : kForms) {
    CAPTURE(form.name);
    const int64_t length = 50;
    Problem p = make(form, {0, length});
    Tensor whole_state = copy(p.ctx, p.initial);
    const Tensor whole =
        recurrence_forward(p.ctx, p.config, p.in, p.starts, blocks(whole_state), nullptr);
    const auto part = [&](const Tensor& t, int64_t begin, int64_t end) {
      if (!t.defined() || t.rank() == 1) return t;
      const int64_t per = t.size(0) / length;
      return t.narrow(0, begin * per, (end - begin) * per);
    };
    for (const std::vector<int64_t>& cuts : {std::vector<int64_t>{0, 1, 2, 3, 50},
                                             {0, 17, 50},
                                             {0, 31, 32, 33, 50},
                                             {0, 5, 11, 16, 20, 34, 49, 50}}) {
      Tensor state = copy(p.ctx, p.initial);
      for (size_t c = 0; c + 1 < cuts.size(); ++c) {
        const int64_t a = cuts[c], b = cuts[c + 1];
        const RecurrenceInputs in{part(p.in.q, a, b), part(p.in.k, a, b),    part(p.in.v, a, b),
                                  part(p.in.g, a, b), part(p.in.beta, a, b), part(p.in.b, a, b),
                                  part(p.in.w, a, b), part(p.in.p, a, b)};
        const std::vector<int64_t> starts{0, b - a};
        const Tensor out = recurrence_forward(p.ctx, p.config, in, starts, blocks(state), nullptr);
        CHECK(worst_error(out, whole.narrow(0, a, b - a)) <= kTolerance);
      }
      CHECK(worst_error(state, whole_state) <= kTolerance);
    }
  }
}

TEST_CASE("recurrence: packed equals alone and threads change nothing, bit for bit") {
  for (const Form& form : kForms) {
    CAPTURE(form.name);
    Problem p = make(form, {0, 40, 43, 150}, Sizes{2, 12, 16, 16});
    p.ctx.threads = 1;
    const Result one = run(p);
    p.ctx.threads = 2;
    const Result two = run(p);
    CHECK(same(one.out, two.out));
    CHECK(same(one.final_states, two.final_states));
    CHECK(same(one.grads.q, two.grads.q));
    CHECK(same(one.grads.k, two.grads.k));
    CHECK(same(one.grads.g, two.grads.g));
    CHECK(same(one.grads.beta, two.grads.beta));
    const auto part = [&](const Tensor& t, int64_t s) {
      if (!t.defined() || t.rank() == 1) return t;
      const int64_t per = t.size(0) / p.starts.back();
      return t.narrow(0, p.starts[s] * per, (p.starts[s + 1] - p.starts[s]) * per);
    };
    for (int64_t s = 0; s < p.sequences(); ++s) {
      const RecurrenceInputs in{part(p.in.q, s), part(p.in.k, s),    part(p.in.v, s),
                                part(p.in.g, s), part(p.in.beta, s), part(p.in.b, s),
                                part(p.in.w, s), part(p.in.p, s)};
      const std::vector<int64_t> starts{0, p.starts[s + 1] - p.starts[s]};
      Tensor state = copy(p.ctx, p.initial.narrow(0, s, 1));
      RecurrenceSaved saved;
      const Tensor out = recurrence_forward(p.ctx, p.config, in, starts, blocks(state), &saved);
      CHECK(same(out, part(one.out, s)));
      CHECK(same(state, one.final_states.narrow(0, s, 1)));
    }
  }
}

TEST_CASE("recurrence: gates that the heads of a group share are gates of each") {
  for (const Form& form : {kForms[2], kForms[1], kForms[5]}) {
    CAPTURE(form.name);
    const Sizes n{2, 12, 16, 16};
    const int64_t group = n.value_heads / n.heads;
    Problem p = make(form, {0, 50}, n);
    if (form.erase == Erase::kNone) p.in.beta = uniform(p.ctx, {50, n.value_heads}, "beta", 0, 1);
    // The first head's gate for all of its group.
    const auto shared = [&](const Tensor& t, bool spread) {
      const int64_t rows = t.rank() == 1 ? 1 : t.size(0), heads = spread ? n.value_heads : n.heads;
      Tensor s = Tensor::empty(p.ctx, t.rank() == 1 ? Shape{heads} : Shape{rows, heads});
      for (int64_t i = 0; i < s.count(); ++i) {
        const int64_t key = i % heads / (spread ? group : 1);
        s.data()[i] = t.data()[i / heads * n.value_heads + key * group];
      }
      return s;
    };
    const auto run_with = [&](bool spread) {
      Problem q = p;
      q.in.g = shared(p.in.g, spread);
      q.in.beta = shared(p.in.beta, spread);
      return run(q);
    };
    const Result one = run_with(false), each = run_with(true);
    CHECK(same(one.out, each.out));
    CHECK(same(one.grads.v, each.grads.v));
    const auto sums = [&](const Tensor& t) {
      std::vector<double> s(static_cast<size_t>(t.count() / group));
      for (int64_t i = 0; i < t.count(); ++i) {
        const int64_t row = i / n.value_heads, key = i % n.value_heads / group;
        s[static_cast<size_t>(row * n.heads + key)] += t.data()[i];
      }
      return s;
    };
    CHECK(worst_error(one.grads.g, sums(each.grads.g)) <= 1e-6);
    CHECK(worst_error(one.grads.beta, sums(each.grads.beta)) <= 1e-6);
  }
}

TEST_CASE("recurrence: strided views, and the tape") {
  const Form& form = kForms[6];
  Problem p = make(form, {0, 30}, Sizes{2, 2, 16, 16});
  const Result dense = run(p);
  // q, k, v as columns of one row per token, as a fused projection makes them.
  Tensor fused = Tensor::empty(p.ctx, {30, 6, 16});
  for (int64_t t = 0; t < 30; ++t) {
    for (int64_t i = 0; i < 32; ++i) {
      fused.data()[t * 96 + i] = p.in.q.data()[t * 32 + i];
      fused.data()[t * 96 + 32 + i] = p.in.k.data()[t * 32 + i];
      fused.data()[t * 96 + 64 + i] = p.in.v.data()[t * 32 + i];
    }
  }
  RecurrenceInputs in = p.in;
  in.q = fused.narrow(1, 0, 2);
  in.k = fused.narrow(1, 2, 2);
  in.v = fused.narrow(1, 4, 2);
  Tape tape;
  Context ctx = p.ctx;
  ctx.tape = &tape;
  tape.watch(in.q);
  tape.watch(in.beta);
  std::fill_n(p.initial.data(), p.initial.count(), 0.0f);
  std::fill_n(p.d_final.data(), p.d_final.count(), 0.0f);
  const Result zero = run(p);
  const Tensor out = recurrence(ctx, p.config, in, p.starts);
  CHECK(same(out, zero.out));
  CHECK_FALSE(same(out, dense.out));
  tape.backward(p.ctx, out, p.d_out);
  CHECK(same(tape.grad(in.q), zero.grads.q));
  CHECK(same(tape.grad(in.beta), zero.grads.beta));
}

TEST_CASE("recurrence: a dry run counts what a real one does") {
  for (const int64_t length : {1, 100}) {
    Problem p = make(kForms[6], {0, length});
    Counters real, dry;
    p.ctx.counters = &real;
    recurrence_forward(p.ctx, p.config, p.in, p.starts, {}, nullptr);
    CHECK(real.product_flops > 0);
    Problem q = p;
    q.ctx.arena = Arena::create(Arena::Mode::kDry);
    q.ctx.counters = &dry;
    for (Tensor* t : {&q.in.q, &q.in.k, &q.in.v, &q.in.g, &q.in.beta})
      *t = Tensor::empty(q.ctx, t->shape());
    recurrence_forward(q.ctx, q.config, q.in, q.starts, {}, nullptr);
    CHECK(dry.product_flops == real.product_flops);
  }
}

TEST_CASE("recurrence: shapes that do not fit are named") {
  Problem p = make(kForms[6], {0, 4});
  const auto message = [&](const RecurrenceInputs& in, std::vector<int64_t> starts) -> std::string {
    try {
      recurrence(p.ctx, p.config, in, starts);
    } catch (const Error& e) {
      return e.what();
    }
    return "";
  };
  RecurrenceInputs in = p.in;
  in.beta = {};
  CHECK(message(in, p.starts).find("beta is absent") != std::string::npos);
  in = p.in;
  in.g = p.in.beta;
  CHECK(message(in, p.starts).find("g is [4, 2]") != std::string::npos);
  CHECK(message(p.in, {0, 3}).find("from 0 to 4") != std::string::npos);
  CHECK(message(p.in, p.starts).empty());
}

}  // namespace braid
