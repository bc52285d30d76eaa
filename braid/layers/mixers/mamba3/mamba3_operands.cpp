#include "braid/layers/mixers/mamba3/mamba3_operands.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/ops/column_sums.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

constexpr double kPi = std::numbers::pi;

float sigmoid(float x) { return 1.0f / (1.0f + std::exp(-x)); }
float softplus_of(float x) { return x > 20 ? x : std::log1p(std::exp(x)); }

int64_t token_grain(int64_t tokens, int64_t row) {
  return std::max<int64_t>({1, (1 << 14) / std::max<int64_t>(1, row), (tokens + 63) / 64});
}

struct Sizes {
  int64_t tokens, groups, heads, states, pairs, sequences;
  bool shared;  // one set of angles for all heads
  int64_t group_of(int64_t head) const { return head / (heads / groups); }
};

Sizes sizes_of(const Mamba3Inputs& in, std::span<const int64_t> seq_starts) {
  const bool shared = in.angles.rank() == 2;
  return {in.c.size(0), in.c.size(1),       in.dt.size(1),
          in.c.size(2), in.angles.size(-1), std::ssize(seq_starts) - 1,
          shared};
}

// One head of one sequence, in the order of time.
struct HeadRun {
  const Mamba3Inputs& in;
  const Sizes& n;
  Rows trap, angles;
  HeadRun(const Mamba3Inputs& inputs, const Sizes& sizes)
      : in(inputs), n(sizes), trap(rows_of(inputs.trap)), angles(rows_of(inputs.angles)) {}
  float lambda(int64_t t, int64_t h) const { return sigmoid(in.trap.data()[t * trap.stride + h]); }
  float dt(int64_t t, int64_t h) const { return in.dt.data()[t * n.heads + h]; }
  const float* angle(int64_t t, int64_t h) const {
    return in.angles.data() + t * angles.stride + (n.shared ? 0 : h * n.pairs);
  }
};

// Turns the first 2 S channels of x by the angles, pairs (2 i, 2 i + 1); `sign` -1 turns back.
void turn(int64_t pairs, const float* cosines, const float* sines, float sign, float* x) {
  for (int64_t s = 0; s < pairs; ++s) {
    const float a = x[2 * s], b = x[2 * s + 1], sine = sign * sines[s];
    x[2 * s] = a * cosines[s] - b * sine;
    x[2 * s + 1] = a * sine + b * cosines[s];
  }
}

// Angles of one token on: theta += pi tanh(angle) dt, kept within a turn.
void advance_angles(int64_t pairs, const float* angle, float dt, double* theta, float* cosines,
                    float* sines) {
  for (int64_t s = 0; s < pairs; ++s) {
    theta[s] = std::remainder(theta[s] + kPi * std::tanh(double{angle[s]}) * dt, 2 * kPi);
    cosines[s] = std::cos(static_cast<float>(theta[s]));
    sines[s] = std::sin(static_cast<float>(theta[s]));
  }
}

}  // namespace

Mamba3Steps mamba3_steps(const Context& ctx, const Tensor& raw, const Tensor& raw_a,
                         Parameter& dt_bias, bool softplus, double floor) {
  const Rows r = rows_of(raw), ra = rows_of(raw_a);
  const int64_t heads = r.cols, grain = token_grain(r.rows, heads);
  BRAID_CHECK(ra.cols == heads && dt_bias.value.count() == heads);
  Mamba3Steps out{Tensor::empty(ctx, {r.rows, heads}), Tensor::empty(ctx, {r.rows, heads})};
  const float least = static_cast<float>(floor);
  const auto rate = [softplus](float x) {
    return softplus ? softplus_of(x) : x >= 0 ? 1 + x : 1 / (1 - x);
  };
  parallel_for(ctx, r.rows, grain, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < heads; ++h) {
        const float dt = softplus_of(raw.data()[t * r.stride + h] + dt_bias.value.data()[h]);
        out.dt.data()[t * heads + h] = dt;
        out.adt.data()[t * heads + h] =
            -dt * std::max(rate(raw_a.data()[t * ra.stride + h]), least);
      }
    }
  });
  Tape* tape = recording(ctx, {&raw, &raw_a}, dt_bias.grad.defined());
  if (tape == nullptr) return out;
  const Mamba3Steps kept = out;  // before they get slots: values only
  Tensor* const outputs[] = {&out.dt, &out.adt};
  tape->record_many(outputs, [=, &dt_bias](Tape& tp, std::span<const Tensor> grads) {
    const Context& c = tp.context();
    Tensor draw = Tensor::empty(c, raw.shape()), da = Tensor::empty(c, raw_a.shape());
    const ColumnSums sums(c, r.rows, grain, heads);
    parallel_for(c, r.rows, grain, [&](int64_t begin, int64_t end) {
      float* bias = sums.range(begin);
      for (int64_t t = begin; t < end; ++t) {
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t i = t * heads + h;
          const float x = raw_a.data()[t * ra.stride + h], dt = kept.dt.data()[i];
          const float up = grads[1].defined() ? grads[1].data()[i] : 0.0f;
          const float a = kept.adt.data()[i] / dt;
          const float slope = softplus ? sigmoid(x) : x >= 0 ? 1.0f : 1 / ((1 - x) * (1 - x));
          da.data()[i] = rate(x) > least ? -up * dt * slope : 0.0f;
          const float d_dt = (grads[0].defined() ? grads[0].data()[i] : 0.0f) + up * a;
          const float d = d_dt * sigmoid(raw.data()[t * r.stride + h] + dt_bias.value.data()[h]);
          draw.data()[i] = d;
          bias[h] += d;
        }
      }
    });
    if (dt_bias.grad.defined()) sums.add_to(c, dt_bias.grad);
    tp.add(raw, std::move(draw));
    tp.add(raw_a, std::move(da));
  });
  return out;
}

Mamba3Operands mamba3_operands_forward(const Context& ctx, const Mamba3Inputs& in,
                                       const Parameter& q_bias, const Parameter& k_bias,
                                       std::span<const int64_t> seq_starts,
                                       std::span<double* const> angles0) {
  const Sizes n = sizes_of(in, seq_starts);
  BRAID_CHECK(in.c.contiguous() && in.b.contiguous() && in.dt.contiguous());
  BRAID_CHECK(2 * n.pairs <= n.states && n.heads % n.groups == 0);
  Mamba3Operands out{Tensor::empty(ctx, {n.tokens, n.heads, n.states}),
                     Tensor::empty(ctx, {n.tokens, n.heads, n.states}),
                     Tensor::empty(ctx, {n.tokens, n.heads}),
                     Tensor::empty(ctx, {n.tokens, n.heads}),
                     Tensor::empty(ctx, {n.sequences, n.heads}),
                     Tensor::empty(ctx, {n.tokens, n.heads, n.pairs}),
                     Tensor::empty(ctx, {n.tokens, n.heads, n.pairs})};
  parallel_for(ctx, n.sequences * n.heads, 1, [&](int64_t task, int64_t) {
    const HeadRun run(in, n);
    const int64_t s = task / n.heads, h = task % n.heads, first = seq_starts[s],
                  end = seq_starts[s + 1];
    std::vector<double> theta(static_cast<size_t>(n.pairs), 0.0);
    double* kept = angles0.empty() ? nullptr : angles0[static_cast<size_t>(s)] + h * n.pairs;
    if (kept != nullptr) std::copy_n(kept, n.pairs, theta.data());
    out.enter.data()[task] = first < end ? (1 - run.lambda(first, h)) * run.dt(first, h) : 0.0f;
    for (int64_t t = first; t < end; ++t) {
      float* cosines = out.cosines.data() + (t * n.heads + h) * n.pairs;
      float* sines = out.sines.data() + (t * n.heads + h) * n.pairs;
      advance_angles(n.pairs, run.angle(t, h), run.dt(t, h), theta.data(), cosines, sines);
      const int64_t from = (t * n.groups + n.group_of(h)) * n.states;
      for (const bool query : {true, false}) {
        const float* x = (query ? in.c : in.b).data() + from;
        const float* bias = (query ? q_bias : k_bias).value.data() + h * n.states;
        float* y = (query ? out.q : out.k).data() + (t * n.heads + h) * n.states;
        for (int64_t i = 0; i < n.states; ++i) y[i] = x[i] + bias[i];
        turn(n.pairs, cosines, sines, 1, y);
      }
      const float ahead = t + 1 < end ? (1 - run.lambda(t + 1, h)) * run.dt(t + 1, h) : 0.0f;
      out.ahead.data()[t * n.heads + h] = ahead;
      out.write.data()[t * n.heads + h] = run.lambda(t, h) * run.dt(t, h) + ahead;
    }
    if (kept != nullptr) std::copy_n(theta.data(), n.pairs, kept);
  });
  return out;
}

namespace {

// sum over the heads of a group, in order: d [T, H, N] -> [T, G, N].
void add_heads(const Context& ctx, const Sizes& n, const Tensor& d, const Tensor& into) {
  const int64_t share = n.heads / n.groups;
  parallel_for(ctx, n.tokens, token_grain(n.tokens, n.heads * n.states),
               [&](int64_t begin, int64_t end) {
                 for (int64_t i = begin * n.groups; i < end * n.groups; ++i) {
                   float* to = into.data() + i * n.states;
                   std::copy_n(d.data() + i * share * n.states, n.states, to);
                   for (int64_t h = 1; h < share; ++h) {
                     const float* from = d.data() + (i * share + h) * n.states;
                     for (int64_t c = 0; c < n.states; ++c) to[c] += from[c];
                   }
                 }
               });
}

// bias.grad += the sequences' parts [sequences, H * N], in order.
void add_parts(const Context& ctx, const Tensor& parts, Parameter& bias) {
  if (!bias.grad.defined() || ctx.dry()) return;
  const int64_t count = bias.grad.count();
  for (int64_t s = 0; s < parts.size(0); ++s) {
    for (int64_t i = 0; i < count; ++i) bias.grad.data()[i] += parts.data()[s * count + i];
  }
}

}  // namespace

Mamba3Grads mamba3_operands_backward(const Context& ctx, const Mamba3Inputs& in, Parameter& q_bias,
                                     Parameter& k_bias, std::span<const int64_t> seq_starts,
                                     const Mamba3Operands& kept, const Mamba3Operands& d) {
  const Sizes n = sizes_of(in, seq_starts);
  const Shape per_head{n.tokens, n.heads, n.states};
  const Tensor dq = Tensor::empty(ctx, per_head), dk = Tensor::empty(ctx, per_head);
  const Tensor d_angles = Tensor::empty(ctx, {n.tokens, n.heads, n.pairs});
  const Tensor of_q = Tensor::zeros(ctx, {n.sequences, n.heads * n.states}),
               of_k = Tensor::zeros(ctx, {n.sequences, n.heads * n.states});
  Mamba3Grads g{
      Tensor::empty(ctx, in.c.shape()),      Tensor::empty(ctx, in.b.shape()),
      Tensor::empty(ctx, in.dt.shape()),     Tensor::empty(ctx, in.trap.shape()),
      Tensor::empty(ctx, in.angles.shape()), Tensor::empty(ctx, {n.sequences, n.heads, n.pairs})};
  parallel_for(ctx, n.sequences * n.heads, 1, [&](int64_t task, int64_t) {
    const HeadRun run(in, n);
    const int64_t s = task / n.heads, h = task % n.heads;
    std::vector<double> carry(static_cast<size_t>(n.pairs), 0.0);  // of the angles so far
    for (int64_t t = seq_starts[s + 1]; t-- > seq_starts[s];) {
      const int64_t i = t * n.heads + h, at = i * n.states, turns = i * n.pairs;
      for (const bool query : {true, false}) {
        const float* x = (query ? kept.q : kept.k).data() + at;
        const float* up = (query ? d.q : d.k).data() + at;
        float* to = (query ? dq : dk).data() + at;
        // A turn moves (a, b) along (-b, a).
        for (int64_t p = 0; p < n.pairs; ++p) {
          carry[static_cast<size_t>(p)] +=
              double{up[2 * p + 1]} * x[2 * p] - double{up[2 * p]} * x[2 * p + 1];
        }
        std::copy_n(up, n.states, to);
        turn(n.pairs, kept.cosines.data() + turns, kept.sines.data() + turns, -1, to);
        float* bias = (query ? of_q : of_k).data() + (s * n.heads + h) * n.states;
        for (int64_t c = 0; c < n.states; ++c) bias[c] += to[c];
      }
      const float lambda = run.lambda(t, h), dt = run.dt(t, h), own = d.write.data()[i];
      float before = 0;  // of this token's step as the one ahead
      if (t > seq_starts[s]) {
        before = d.write.data()[i - n.heads] + d.ahead.data()[i - n.heads];
      } else if (d.enter.defined()) {
        before = d.enter.data()[task];
      }
      double d_dt = double{lambda} * own + double{1 - lambda} * before;
      for (int64_t p = 0; p < n.pairs; ++p) {
        const double turned = std::tanh(double{run.angle(t, h)[p]});
        const double up = carry[static_cast<size_t>(p)] * kPi;
        d_angles.data()[turns + p] = static_cast<float>(up * (1 - turned * turned) * dt);
        d_dt += up * turned;
      }
      g.dt.data()[i] = static_cast<float>(d_dt);
      g.trap.data()[i] = dt * (own - before) * lambda * (1 - lambda);
    }
    for (int64_t p = 0; p < n.pairs; ++p) {
      g.angles0.data()[task * n.pairs + p] = static_cast<float>(carry[static_cast<size_t>(p)]);
    }
  });
  add_heads(ctx, n, dq, g.c);
  add_heads(ctx, n, dk, g.b);
  add_parts(ctx, of_q, q_bias);
  add_parts(ctx, of_k, k_bias);
  if (!n.shared) {
    g.angles = d_angles;
    return g;
  }
  parallel_for(ctx, n.tokens, token_grain(n.tokens, n.heads * n.pairs),
               [&](int64_t begin, int64_t end) {
                 for (int64_t t = begin; t < end; ++t) {
                   for (int64_t p = 0; p < n.pairs; ++p) {
                     float sum = 0;
                     for (int64_t h = 0; h < n.heads; ++h)
                       sum += d_angles.data()[(t * n.heads + h) * n.pairs + p];
                     g.angles.data()[t * n.pairs + p] = sum;
                   }
                 }
               });
  return g;
}

Mamba3Operands mamba3_operands(const Context& ctx, const Mamba3Inputs& in, Parameter& q_bias,
                               Parameter& k_bias, std::span<const int64_t> seq_starts,
                               std::span<double* const> angles0) {
  Mamba3Operands out = mamba3_operands_forward(ctx, in, q_bias, k_bias, seq_starts, angles0);
  Tape* tape = recording(ctx, {&in.c, &in.b, &in.dt, &in.trap, &in.angles},
                         q_bias.grad.defined() || k_bias.grad.defined());
  if (tape == nullptr) return out;
  const Mamba3Operands kept = out;  // before they get slots: values only
  std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
  Tensor* const outputs[] = {&out.q, &out.k, &out.write, &out.ahead};
  tape->record_many(outputs, [in, kept, &q_bias, &k_bias, starts = std::move(starts)](
                                 Tape& t, std::span<const Tensor> grads) {
    const Context& c = t.context();
    const auto given = [&](size_t i, const Tensor& like) {
      return grads[i].defined() ? grads[i] : Tensor::zeros(c, like.shape());
    };
    const Mamba3Operands d{
        given(0, kept.q), given(1, kept.k), given(2, kept.write), given(3, kept.ahead), {}, {}, {}};
    Mamba3Grads g = mamba3_operands_backward(c, in, q_bias, k_bias, starts, kept, d);
    t.add(in.c, std::move(g.c));
    t.add(in.b, std::move(g.b));
    t.add(in.dt, std::move(g.dt));
    t.add(in.trap, std::move(g.trap));
    t.add(in.angles, std::move(g.angles));
  });
  return out;
}

Tensor mamba3_output(const Context& ctx, const Tensor& o, const Mamba3Operands& operands,
                     const Tensor& v, Parameter& skip) {
  const Tensor q = operands.q, k = operands.k, ahead = operands.ahead;
  const int64_t tokens = o.size(0), heads = o.size(1), dim = o.size(2), states = q.size(2);
  const Rows vr = rows_of(v);
  const int64_t grain = token_grain(tokens, heads * (dim + states));
  BRAID_CHECK(o.contiguous() && v.shape() == o.shape() && skip.value.count() == heads);
  Tensor y = Tensor::empty(ctx, o.shape()), score = Tensor::empty(ctx, {tokens, heads});
  parallel_for(ctx, tokens, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * heads; i < end * heads; ++i) {
      float dot = 0;
      for (int64_t c = 0; c < states; ++c)
        dot += q.data()[i * states + c] * k.data()[i * states + c];
      score.data()[i] = dot;
      const float by = skip.value.data()[i % heads] - ahead.data()[i] * dot;
      const float* value = v.data() + i / heads * vr.stride + i % heads * dim;
      for (int64_t c = 0; c < dim; ++c)
        y.data()[i * dim + c] = o.data()[i * dim + c] + by * value[c];
    }
  });
  Tape* tape = recording(ctx, {&o, &q, &k, &ahead, &v}, skip.grad.defined());
  if (tape == nullptr) return y;
  tape->record(y, [=, &skip](Tape& t, const Tensor& dy) {
    const Context& c = t.context();
    Tensor dq = Tensor::empty(c, q.shape()), dk = Tensor::empty(c, k.shape()),
           d_ahead = Tensor::empty(c, ahead.shape()), dv = Tensor::empty(c, v.shape());
    const ColumnSums sums(c, tokens, grain, heads);
    parallel_for(c, tokens, grain, [&](int64_t begin, int64_t end) {
      float* of_skip = sums.range(begin);
      for (int64_t i = begin * heads; i < end * heads; ++i) {
        const float* value = v.data() + i / heads * vr.stride + i % heads * dim;
        const float by = skip.value.data()[i % heads] - ahead.data()[i] * score.data()[i];
        float dot = 0;
        for (int64_t e = 0; e < dim; ++e) {
          dot += dy.data()[i * dim + e] * value[e];
          dv.data()[i * dim + e] = by * dy.data()[i * dim + e];
        }
        of_skip[i % heads] += dot;
        d_ahead.data()[i] = -dot * score.data()[i];
        const float to_score = -dot * ahead.data()[i];
        for (int64_t e = 0; e < states; ++e) {
          dq.data()[i * states + e] = to_score * k.data()[i * states + e];
          dk.data()[i * states + e] = to_score * q.data()[i * states + e];
        }
      }
    });
    if (skip.grad.defined()) sums.add_to(c, skip.grad);
    t.add(q, std::move(dq));
    t.add(k, std::move(dk));
    t.add(ahead, std::move(d_ahead));
    t.add(v, std::move(dv));
    t.add(o, dy);
  });
  return y;
}

}  // namespace braid
