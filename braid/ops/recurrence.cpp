#include "braid/ops/recurrence.h"

#include <algorithm>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/delta/delta.h"
#include "braid/kernels/delta/delta_chunk.h"
#include "braid/kernels/delta/delta_step.h"
#include "braid/ops/scratch_slots.h"
#include "braid/ops/step.h"

namespace braid {
namespace {

using Decay = RecurrenceConfig::Decay;
using Erase = RecurrenceConfig::Erase;

// Micro-steps of a token as the kernel takes them.
int64_t kernel_steps(const RecurrenceConfig& c) {
  return c.erase == Erase::kPair ? 2 : c.micro_steps;
}

struct Sizes {
  int64_t tokens, micro_steps, heads, value_heads, key_dim, value_dim, sequences;
  int64_t group() const { return value_heads / heads; }
  int64_t state() const { return key_dim * value_dim; }
};

[[noreturn]] void bad(const char* what, const Tensor& t, const std::string& expected) {
  throw Error(ErrorKind::kUsage,
              format("recurrence: {} is {}, expected {}", what,
                     t.defined() ? t.shape().str() : std::string("absent"), expected));
}

// Shape [rows, heads, (width)], where heads may also be `other_heads`; width 0 = no last dimension.
void check(const char* what, const Tensor& t, int64_t rows, int64_t heads, int64_t other_heads,
           int64_t width) {
  const int rank = width > 0 ? 3 : 2;
  const bool fits = t.defined() && t.dtype() == DType::kF32 && t.rank() == rank &&
                    t.size(0) == rows && (t.size(1) == heads || t.size(1) == other_heads) &&
                    (width == 0 || (t.size(2) == width && (width == 1 || t.stride(2) == 1)));
  if (fits) return;
  bad(what, t,
      width > 0 ? format("f32 [{}, {}, {}] with a dense last dimension", rows, heads, width)
                : format("f32 [{}, {}]", rows, heads));
}

Sizes check_all(const RecurrenceConfig& c, const RecurrenceInputs& in,
                std::span<const int64_t> seq_starts) {
  for (const Tensor* t : {&in.q, &in.v}) {
    if (!t->defined() || t->rank() != 3) bad(t == &in.q ? "q" : "v", *t, "three dimensions");
  }
  Sizes s{in.q.size(0),
          kernel_steps(c),
          in.q.size(1),
          in.v.size(1),
          in.q.size(2),
          in.v.size(2),
          static_cast<int64_t>(seq_starts.size()) - 1};
  if (c.erase == Erase::kPair && (c.micro_steps != 1 || in.beta.defined() || in.w.defined())) {
    throw Error(ErrorKind::kUsage, "recurrence: a pair takes one micro-step a token and no gates");
  }
  if (c.micro_steps < 1 || s.heads < 1 || s.value_heads % s.heads != 0) {
    throw Error(ErrorKind::kUsage, format("recurrence: {} value heads must be a multiple of {} key "
                                          "heads; {} micro-steps must be >= 1",
                                          s.value_heads, s.heads, c.micro_steps));
  }
  if (seq_starts.empty() || seq_starts.front() != 0 || seq_starts.back() != s.tokens ||
      !std::is_sorted(seq_starts.begin(), seq_starts.end())) {
    throw Error(ErrorKind::kUsage,
                format("recurrence: sequence starts must rise from 0 to {}", s.tokens));
  }
  const int64_t steps = s.tokens * c.micro_steps, h = s.heads, hv = s.value_heads, kd = s.key_dim;
  check("q", in.q, s.tokens, h, h, kd);
  check("k", in.k, steps, h, h, kd);
  check("v", in.v, steps, hv, hv, s.value_dim);
  if (c.decay == Decay::kPerHead) {
    if (!in.g.defined() || in.g.rank() != 1 || (in.g.size(0) != hv && in.g.size(0) != h)) {
      bad("g", in.g, format("[{}]", hv));
    }
  } else if (c.decay != Decay::kNone) {
    check("g", in.g, s.tokens, hv, h, c.decay == Decay::kVector ? kd : 0);
  }
  if (c.erase == Erase::kBeta || c.erase == Erase::kKey || in.beta.defined())
    check("beta", in.beta, steps, hv, h, 0);
  if (c.erase == Erase::kVector) check("b", in.b, steps, hv, h, kd);
  if (c.erase == Erase::kKey || c.erase == Erase::kPair) check("p", in.p, steps, h, h, kd);
  if (c.erase == Erase::kPair) check("b", in.b, steps, h, h, kd);
  if (in.w.defined()) check("w", in.w, steps, hv, hv, s.value_dim);
  return s;
}

// Micro-steps of a sequence from which on the chunk form is as fast as single steps (measured at K
// = V = 128).
constexpr int64_t kShortestChunk = 16;

constexpr int64_t kStepRanges = 8;

// Below a block of steps the chunk form would pad. A backward pass needs chunks throughout.
bool chunked(int64_t tokens, int64_t micro_steps, bool saved) {
  return saved || (tokens > kStepTokens && tokens * micro_steps >= kShortestChunk);
}

// Rows of `t` from `row` on for value head j: its own head, or its group's when t has fewer heads.
template <typename T>
DeltaRows<T> rows(const Tensor& t, int64_t row, int64_t j, int64_t value_heads) {
  if (!t.defined()) return {};
  if (t.rank() == 1) return {t.data() + j * t.size(0) / value_heads * t.stride(0), 0};
  return {t.data() + row * t.stride(0) + j * t.size(1) / value_heads * t.stride(1), t.stride(0)};
}

DeltaDecay kernel_decay(Decay d) {
  return d == Decay::kNone     ? DeltaDecay::kNone
         : d == Decay::kVector ? DeltaDecay::kVector
                               : DeltaDecay::kScalar;
}

DeltaErase kernel_erase(Erase e) {
  switch (e) {
    case Erase::kNone:
      return DeltaErase::kNone;
    case Erase::kBeta:
      return DeltaErase::kBeta;
    case Erase::kVector:
      return DeltaErase::kVector;
    case Erase::kKey:
    case Erase::kPair:
      return DeltaErase::kKey;
  }
  return DeltaErase::kNone;
}

// Even rows from one array, odd ones from the other.
template <typename T>
DeltaRows<T> in_pairs(const DeltaRows<T>& even, const DeltaRows<T>& odd) {
  return {even.data, even.stride, true, odd.data, odd.stride};
}

// A token of a pair: erase (key b, read by p, nothing written), then write (k, v). beta is the sign
// of p and the gate of v. nothing: zeros for a row.
void take_pairs(const RecurrenceInputs& in, int64_t begin, int64_t j, int64_t hv,
                const float* nothing, DeltaHead<float>& h) {
  static constexpr float kErase = -1.0f, kWrite = 1.0f;
  const auto of = [&](const Tensor& t) { return rows<const float>(t, begin, j, hv); };
  const DeltaRows<const float> zeros{nothing, 0};
  h.k = in_pairs(of(in.b), of(in.k));
  h.p = in_pairs(of(in.p), zeros);
  h.v = in_pairs(zeros, of(in.v));
  h.beta = in_pairs(DeltaRows<const float>{&kErase, 0}, DeltaRows<const float>{&kWrite, 0});
}

// Value head j of the tokens [begin, end).
DeltaHead<float> head_of(const RecurrenceConfig& c, const RecurrenceInputs& in, const Sizes& s,
                         int64_t begin, int64_t end, int64_t j, const Tensor& nothing) {
  DeltaHead<float> h;
  const int64_t step = begin * s.micro_steps, hv = s.value_heads;
  h.tokens = end - begin;
  h.micro_steps = s.micro_steps;
  h.key_dim = s.key_dim;
  h.value_dim = s.value_dim;
  h.decay = kernel_decay(c.decay);
  h.erase = kernel_erase(c.erase);
  h.scale = c.scale;
  h.q = rows<const float>(in.q, begin, j, hv);
  if (c.decay != Decay::kNone) h.g = rows<const float>(in.g, begin, j, hv);
  if (c.erase == Erase::kPair) {
    take_pairs(in, begin, j, hv, nothing.data(), h);
    return h;
  }
  h.k = rows<const float>(in.k, step, j, hv);
  h.v = rows<const float>(in.v, step, j, hv);
  h.beta = rows<const float>(in.beta, step, j, hv);
  if (c.erase == Erase::kVector) h.b = rows<const float>(in.b, step, j, hv);
  h.w = rows<const float>(in.w, step, j, hv);
  if (c.erase == Erase::kKey) h.p = rows<const float>(in.p, step, j, hv);
  return h;
}

// What a pair's rows without content read; undefined for the other forms.
Tensor nothing_of(const Context& ctx, const RecurrenceConfig& c, const Sizes& s) {
  if (c.erase != Erase::kPair) return {};
  return Tensor::zeros(ctx, {std::max(s.key_dim, s.value_dim)});
}

DeltaChunkPlan plan_of(const RecurrenceConfig& c, int64_t key_dim, int64_t value_dim) {
  return DeltaChunkPlan(key_dim, value_dim, kernel_decay(c.decay), kernel_erase(c.erase), c.chunk);
}

// Index of each sequence's first chunk in RecurrenceSaved; the last entry is the number of chunks.
std::vector<int64_t> chunk_starts(const DeltaChunkPlan& plan, const Sizes& s,
                                  std::span<const int64_t> seq_starts) {
  std::vector<int64_t> starts{0};
  for (int64_t i = 0; i < s.sequences; ++i) {
    starts.push_back(starts.back() +
                     plan.chunks((seq_starts[i + 1] - seq_starts[i]) * s.micro_steps));
  }
  return starts;
}

// The gradient of `t`: added to by the value heads of a group, so zeroed where there are several.
Tensor grad_like(const Context& ctx, const Tensor& t, const Sizes& s) {
  if (!t.defined()) return {};
  return s.group() > 1 ? Tensor::zeros(ctx, t.shape()) : Tensor::empty(ctx, t.shape());
}

}  // namespace

double recurrence_forward_flops(const RecurrenceConfig& config, int64_t tokens, int64_t value_heads,
                                int64_t key_dim, int64_t value_dim, bool saved) {
  const int64_t steps = tokens * kernel_steps(config);
  const double each = chunked(tokens, kernel_steps(config), saved)
                          ? plan_of(config, key_dim, value_dim).forward_flops(steps)
                          : static_cast<double>(steps) *
                                delta_step_flops(key_dim, value_dim, kernel_erase(config.erase));
  return static_cast<double>(value_heads) * each;
}

double recurrence_backward_flops(const RecurrenceConfig& config, int64_t tokens,
                                 int64_t value_heads, int64_t key_dim, int64_t value_dim) {
  return static_cast<double>(value_heads) *
         plan_of(config, key_dim, value_dim).backward_flops(tokens * kernel_steps(config));
}

Tensor recurrence_forward(const Context& ctx, const RecurrenceConfig& config,
                          const RecurrenceInputs& in, std::span<const int64_t> seq_starts,
                          std::span<float* const> states, RecurrenceSaved* saved) {
  const Sizes s = check_all(config, in, seq_starts);
  BRAID_CHECK(states.empty() || static_cast<int64_t>(states.size()) == s.sequences);
  Tensor out = Tensor::empty(ctx, {s.tokens, s.value_heads, s.value_dim});
  const auto in_chunks = [&](int64_t seq) {
    return chunked(seq_starts[seq + 1] - seq_starts[seq], s.micro_steps, saved != nullptr);
  };
  std::optional<DeltaChunkPlan> plan;
  for (int64_t i = 0; i < s.sequences && !plan; ++i) {
    if (in_chunks(i)) plan = plan_of(config, s.key_dim, s.value_dim);
  }
  std::vector<int64_t> chunks;
  if (saved != nullptr) {
    if (!plan) plan = plan_of(config, s.key_dim, s.value_dim);
    chunks = chunk_starts(*plan, s, seq_starts);
    saved->states = Tensor::empty(ctx, {chunks.back(), s.value_heads, s.key_dim, s.value_dim});
    if (config.erase != Erase::kNone) {
      saved->written = Tensor::empty(ctx, {s.tokens * s.micro_steps, s.value_heads, s.value_dim});
    }
  }
  for (int64_t i = 0; i < s.sequences && ctx.counters != nullptr; ++i) {
    ctx.count_product(recurrence_forward_flops(config, seq_starts[i + 1] - seq_starts[i],
                                               s.value_heads, s.key_dim, s.value_dim,
                                               saved != nullptr));
  }
  const Tensor nothing = nothing_of(ctx, config, s);
  const int64_t needed =
      std::max(plan ? plan->forward_scratch() : 0, delta_step_scratch(s.key_dim));
  const auto run = [&](int64_t task, float* memory) {
    const int64_t seq = task / s.value_heads, j = task % s.value_heads, begin = seq_starts[seq];
    float* state = states.empty() ? memory + needed : states[seq] + j * s.state();
    if (states.empty()) std::fill_n(state, s.state(), 0.0f);
    const DeltaHead<float> head = head_of(config, in, s, begin, seq_starts[seq + 1], j, nothing);
    const DeltaRows<float> to = rows<float>(out, begin, j, s.value_heads);
    if (!in_chunks(seq)) {
      delta_step(head, state, to, memory);
      return;
    }
    DeltaSaved<float> kept;
    if (saved != nullptr) {
      kept.states = rows<float>(saved->states, chunks[seq], j, s.value_heads);
      kept.written = rows<float>(saved->written, begin * s.micro_steps, j, s.value_heads);
    }
    plan->forward(head, state, to, kept, memory);
  };
  const int64_t tasks = s.sequences * s.value_heads;
  // Steps are short: several heads a range.
  const int64_t grain = plan ? 1 : grain_for(tasks, kStepRanges);
  ScratchSlots scratch(ctx, (tasks + grain - 1) / grain, needed + s.state());
  parallel_for(ctx, tasks, grain, [&](int64_t first, int64_t last) {
    const ScratchSlots::Lease lease(scratch);
    for (int64_t task = first; task < last; ++task) run(task, lease.data());
  });
  return out;
}

RecurrenceGrads recurrence_backward(const Context& ctx, const RecurrenceConfig& config,
                                    const RecurrenceInputs& in, std::span<const int64_t> seq_starts,
                                    const RecurrenceSaved& saved, const Tensor& d_out,
                                    const Tensor& d_final_states) {
  const Sizes s = check_all(config, in, seq_starts);
  RecurrenceGrads grads{
      grad_like(ctx, in.q, s), grad_like(ctx, in.k, s),    grad_like(ctx, in.v, s),
      grad_like(ctx, in.g, s), grad_like(ctx, in.beta, s), grad_like(ctx, in.b, s),
      grad_like(ctx, in.w, s), grad_like(ctx, in.p, s),    {}};
  const DeltaChunkPlan plan = plan_of(config, s.key_dim, s.value_dim);
  const std::vector<int64_t> chunks = chunk_starts(plan, s, seq_starts);
  BRAID_CHECK(saved.states.defined() && saved.states.size(0) == chunks.back());
  for (int64_t i = 0; i < s.sequences && ctx.counters != nullptr; ++i) {
    ctx.count_product(recurrence_backward_flops(config, seq_starts[i + 1] - seq_starts[i],
                                                s.value_heads, s.key_dim, s.value_dim));
  }
  const Shape state_shape{s.sequences, s.value_heads, s.key_dim, s.value_dim};
  grads.initial_states = Tensor::empty(ctx, state_shape);
  // A decay that is constant in time is shared by the sequences: summed per sequence first, then
  // over them in order.
  const bool per_head = config.decay == Decay::kPerHead;
  const Tensor g_parts = per_head ? Tensor::zeros(ctx, {s.sequences, in.g.size(0)}) : Tensor();
  const int64_t group = s.group(), hv = s.value_heads;
  const Tensor nothing = nothing_of(ctx, config, s);
  const bool pairs = config.erase == Erase::kPair;
  // One task per key head: its value heads add into the same gradients of q and k.
  ScratchSlots scratch(ctx, s.sequences * s.heads, plan.backward_scratch());
  parallel_for(ctx, s.sequences * s.heads, 1, [&](int64_t task, int64_t) {
    const ScratchSlots::Lease lease(scratch);
    const int64_t seq = task / s.heads, begin = seq_starts[seq], step = begin * s.micro_steps;
    for (int64_t j = task % s.heads * group; j < (task % s.heads + 1) * group; ++j) {
      float* carry = grads.initial_states.data() + (seq * hv + j) * s.state();
      if (d_final_states.defined()) {
        std::copy_n(d_final_states.data() + (seq * hv + j) * s.state(), s.state(), carry);
      } else {
        std::fill_n(carry, s.state(), 0.0f);
      }
      DeltaHeadGrads<float> to;
      to.q = rows<float>(grads.q, begin, j, hv);
      to.k = rows<float>(grads.k, pairs ? begin : step, j, hv);
      to.v = rows<float>(grads.v, pairs ? begin : step, j, hv);
      if (per_head) {
        to.g = rows<float>(g_parts.select(0, seq), 0, j, hv);
      } else {
        to.g = rows<float>(grads.g, begin, j, hv);
      }
      to.beta = rows<float>(grads.beta, step, j, hv);
      to.b = rows<float>(grads.b, pairs ? begin : step, j, hv);
      to.w = rows<float>(grads.w, step, j, hv);
      to.p = rows<float>(grads.p, pairs ? begin : step, j, hv);
      if (pairs) {
        to.k = in_pairs(to.b, to.k);
        to.v = in_pairs(DeltaRows<float>{}, to.v);
        to.p = in_pairs(to.p, DeltaRows<float>{});
        to.b = {};
      }
      plan.backward(head_of(config, in, s, begin, seq_starts[seq + 1], j, nothing),
                    {rows<const float>(saved.states, chunks[seq], j, hv),
                     rows<const float>(saved.written, step, j, hv)},
                    rows<const float>(d_out, begin, j, hv), carry, to, group > 1, lease.data());
    }
  });
  if (per_head && !ctx.dry()) {
    for (int64_t seq = 0; seq < s.sequences; ++seq) {
      for (int64_t j = 0; j < in.g.size(0); ++j) {
        const float part = g_parts.data()[seq * in.g.size(0) + j];
        grads.g.data()[j] = seq == 0 ? part : grads.g.data()[j] + part;
      }
    }
  }
  return grads;
}

Tensor recurrence(const Context& ctx, const RecurrenceConfig& config, const RecurrenceInputs& in,
                  std::span<const int64_t> seq_starts, std::span<float* const> states) {
  Tape* tape = recording(ctx, {&in.q, &in.k, &in.v, &in.g, &in.beta, &in.b, &in.w, &in.p});
  RecurrenceSaved saved;
  Tensor out =
      recurrence_forward(ctx, config, in, seq_starts, states, tape != nullptr ? &saved : nullptr);
  if (tape == nullptr) return out;
  tape->record(out, [config, in, saved,
                     starts = std::vector<int64_t>(seq_starts.begin(), seq_starts.end())](
                        Tape& t, const Tensor& d_out) {
    RecurrenceGrads grads = recurrence_backward(t.context(), config, in, starts, saved, d_out, {});
    t.add(in.q, std::move(grads.q));
    t.add(in.k, std::move(grads.k));
    t.add(in.v, std::move(grads.v));
    t.add(in.g, std::move(grads.g));
    t.add(in.beta, std::move(grads.beta));
    t.add(in.b, std::move(grads.b));
    t.add(in.w, std::move(grads.w));
    t.add(in.p, std::move(grads.p));
  });
  return out;
}

}  // namespace braid
