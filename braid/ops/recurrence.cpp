#include "braid/ops/recurrence.h"

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/delta/delta.h"
#include "braid/kernels/delta/delta_shared.h"
#include "braid/kernels/delta/delta_step.h"
#include "braid/kernels/delta/dplr.h"
#include "braid/ops/scratch_slots.h"
#include "braid/ops/step.h"

namespace braid {
namespace {

using Decay = RecurrenceConfig::Decay;
using Erase = RecurrenceConfig::Erase;

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
          c.micro_steps,
          in.q.size(1),
          in.v.size(1),
          in.q.size(2),
          in.v.size(2),
          static_cast<int64_t>(seq_starts.size()) - 1};
  if (c.erase == Erase::kPair &&
      (c.micro_steps != 1 || in.beta.defined() || in.w.defined() || c.decay != Decay::kVector)) {
    throw Error(
        ErrorKind::kUsage,
        "recurrence: a pair takes one micro-step a token, a decay per channel and no gates");
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
      return DeltaErase::kKey;
    case Erase::kPair:
      return DeltaErase::kPair;
  }
  return DeltaErase::kNone;
}

// Value head j of the tokens [begin, end).
DeltaHead<float> head_of(const RecurrenceConfig& c, const RecurrenceInputs& in, const Sizes& s,
                         int64_t begin, int64_t end, int64_t j) {
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
  h.k = rows<const float>(in.k, step, j, hv);
  h.v = rows<const float>(in.v, step, j, hv);
  h.beta = rows<const float>(in.beta, step, j, hv);
  if (c.erase == Erase::kVector || c.erase == Erase::kPair)
    h.b = rows<const float>(in.b, step, j, hv);
  h.w = rows<const float>(in.w, step, j, hv);
  if (c.erase == Erase::kKey || c.erase == Erase::kPair) h.p = rows<const float>(in.p, step, j, hv);
  return h;
}

constexpr int64_t kMostTogether = DeltaPlan::kMostHeads;

// The kernel of a form's chunks: by one decay a token, whose value heads share queries and keys, or
// by a decay per channel.
struct Plan {
  std::optional<DeltaSharedPlan> shared;
  std::optional<DplrPlan> dplr;
  Plan(const RecurrenceConfig& c, int64_t key_dim, int64_t value_dim) {
    if (c.decay == Decay::kVector) {
      dplr.emplace(key_dim, value_dim, kernel_erase(c.erase), c.chunk);
    } else {
      shared.emplace(key_dim, value_dim, kernel_erase(c.erase), c.chunk);
    }
  }
  int64_t chunks(int64_t steps) const {
    return shared ? shared->chunks(steps) : dplr->chunks(steps);
  }
  int64_t forward_scratch() const {
    return shared ? shared->forward_scratch() : dplr->forward_scratch();
  }
  int64_t backward_scratch() const {
    return shared ? shared->backward_scratch() : dplr->backward_scratch();
  }
};

// Value heads [first, first + count) that one task takes; every `group` of them share a key head.
struct Part {
  int64_t first, count, group;
};

// Value heads that one task takes: few enough that small models have work for several threads. Of
// sizes alone, so that gradients summed over parts keep their bits.
int64_t heads_together(int64_t value_heads) {
  constexpr int64_t kTasks = 4;
  return std::clamp<int64_t>(value_heads / kTasks, 1, kMostTogether);
}

// At most as many value heads each: a part of a group, or whole groups.
std::vector<Part> parts_of(int64_t heads, int64_t value_heads) {
  const int64_t group = value_heads / heads, most = heads_together(value_heads);
  std::vector<Part> parts;
  if (group <= most) {
    const int64_t together = most / group * group;
    for (int64_t j = 0; j < value_heads; j += together)
      parts.push_back({j, std::min(together, value_heads - j), group});
    return parts;
  }
  for (int64_t j = 0; j < value_heads;) {
    const int64_t count = std::min(most, group - j % group);
    parts.push_back({j, count, count});
    j += count;
  }
  return parts;
}

double shared_flops(const DeltaSharedPlan& plan, int64_t steps, int64_t heads, int64_t value_heads,
                    double (DeltaSharedPlan::*flops)(int64_t, int64_t) const) {
  double sum = 0;
  for (const Part& p : parts_of(heads, value_heads))
    sum += static_cast<double>(p.count / p.group) * (plan.*flops)(steps, p.group);
  return sum;
}

// Index of each sequence's first chunk in RecurrenceSaved; the last entry is the number of chunks.
std::vector<int64_t> chunk_starts(const Plan& plan, const Sizes& s,
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

double recurrence_forward_flops(const RecurrenceConfig& config, int64_t tokens, int64_t key_heads,
                                int64_t value_heads, int64_t key_dim, int64_t value_dim,
                                bool saved) {
  const int64_t steps = tokens * config.micro_steps;
  const double heads = static_cast<double>(value_heads);
  if (!chunked(tokens, config.micro_steps, saved)) {
    return heads * static_cast<double>(steps) *
           delta_step_flops(key_dim, value_dim, kernel_erase(config.erase));
  }
  const Plan plan(config, key_dim, value_dim);
  if (plan.dplr) return heads * plan.dplr->forward_flops(steps);
  return shared_flops(*plan.shared, steps, key_heads, value_heads, &DeltaSharedPlan::forward_flops);
}

double recurrence_backward_flops(const RecurrenceConfig& config, int64_t tokens, int64_t key_heads,
                                 int64_t value_heads, int64_t key_dim, int64_t value_dim) {
  const Plan plan(config, key_dim, value_dim);
  const double heads = static_cast<double>(value_heads);
  const int64_t steps = tokens * config.micro_steps;
  if (plan.dplr) return heads * plan.dplr->backward_flops(steps);
  return shared_flops(*plan.shared, steps, key_heads, value_heads,
                      &DeltaSharedPlan::backward_flops);
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
  std::optional<Plan> plan;
  for (int64_t i = 0; i < s.sequences && !plan; ++i) {
    if (in_chunks(i)) plan.emplace(config, s.key_dim, s.value_dim);
  }
  std::vector<int64_t> chunks;
  if (saved != nullptr) {
    if (!plan) plan.emplace(config, s.key_dim, s.value_dim);
    chunks = chunk_starts(*plan, s, seq_starts);
    saved->states = Tensor::empty(ctx, {chunks.back(), s.value_heads, s.key_dim, s.value_dim});
    if (config.erase != Erase::kNone) {
      saved->written = Tensor::empty(ctx, {s.tokens * s.micro_steps, s.value_heads, s.value_dim});
    }
  }
  for (int64_t i = 0; i < s.sequences && ctx.counters != nullptr; ++i) {
    ctx.count_product(recurrence_forward_flops(config, seq_starts[i + 1] - seq_starts[i], s.heads,
                                               s.value_heads, s.key_dim, s.value_dim,
                                               saved != nullptr));
  }
  const int64_t needed =
      std::max(plan ? plan->forward_scratch() : 0, delta_step_scratch(s.key_dim));
  const std::vector<Part> parts = parts_of(s.heads, s.value_heads);
  const auto run = [&](int64_t task, float* memory) {
    const int64_t count = std::ssize(parts), seq = task / count, begin = seq_starts[seq];
    const Part& part = parts[static_cast<size_t>(task % count)];
    std::array<DeltaForward, kMostTogether> heads;
    for (int64_t i = 0; i < part.count; ++i) {
      const int64_t j = part.first + i;
      DeltaForward& head = heads[static_cast<size_t>(i)];
      head.in = head_of(config, in, s, begin, seq_starts[seq + 1], j);
      head.state = states.empty() ? memory + needed + i * s.state() : states[seq] + j * s.state();
      if (states.empty()) std::fill_n(head.state, s.state(), 0.0f);
      head.o = rows<float>(out, begin, j, s.value_heads);
      if (saved == nullptr) continue;
      head.states = rows<float>(saved->states, chunks[seq], j, s.value_heads);
      head.written = rows<float>(saved->written, begin * s.micro_steps, j, s.value_heads);
    }
    const std::span<const DeltaForward> own(heads.data(), static_cast<size_t>(part.count));
    if (!in_chunks(seq)) {
      for (const DeltaForward& head : own) delta_step(head.in, head.state, head.o, memory);
    } else if (plan->shared) {
      plan->shared->forward(own, part.group, memory);
    } else {
      plan->dplr->forward(own, memory);
    }
  };
  const int64_t tasks = s.sequences * std::ssize(parts);
  // Steps are short: several heads a range.
  const int64_t grain = plan ? 1 : grain_for(tasks, kStepRanges);
  ScratchSlots scratch(ctx, (tasks + grain - 1) / grain,
                       needed + heads_together(s.value_heads) * s.state());
  parallel_for(ctx, tasks, grain, [&](int64_t first, int64_t last) {
    const ScratchSlots::Lease lease(scratch);
    for (int64_t task = first; task < last; ++task) run(task, lease.data());
  });
  return out;
}

namespace {

// Gradients of the initial states, begun with those of the final ones.
Tensor begin_carry(const Context& ctx, const Sizes& s, const Tensor& d_final_states) {
  const Shape shape{s.sequences, s.value_heads, s.key_dim, s.value_dim};
  Tensor carry = Tensor::empty(ctx, shape);
  if (ctx.dry()) return carry;
  if (d_final_states.defined()) {
    std::copy_n(d_final_states.data(), carry.count(), carry.data());
  } else {
    std::fill_n(carry.data(), carry.count(), 0.0f);
  }
  return carry;
}

// The sums of parts [parts][T, H, K] of key heads, in order.
Tensor sum_parts(const Context& ctx, const Tensor& parts) {
  const int64_t count = parts.size(0), tokens = parts.size(1), row = parts.size(2) * parts.size(3);
  if (count == 1) return parts.select(0, 0);
  Tensor sum = Tensor::empty(ctx, {tokens, parts.size(2), parts.size(3)});
  parallel_for(ctx, tokens, grain_for(tokens, 64), [&](int64_t begin, int64_t end) {
    float* to = sum.data();
    for (int64_t i = begin * row; i < end * row; ++i) to[i] = parts.data()[i];
    for (int64_t p = 1; p < count; ++p) {
      const float* from = parts.data() + p * tokens * row;
      for (int64_t i = begin * row; i < end * row; ++i) to[i] += from[i];
    }
  });
  return sum;
}

// The backward pass of heads that share queries and keys: a task takes a part of a group. Where
// the group shares its gates too, it takes all parts, one after the other.
void backward_shared(const Context& ctx, const RecurrenceConfig& config, const RecurrenceInputs& in,
                     std::span<const int64_t> seq_starts, const Sizes& s,
                     const DeltaSharedPlan& plan, std::span<const int64_t> chunks,
                     const RecurrenceSaved& saved, const Tensor& d_out, const Tensor& g_parts,
                     RecurrenceGrads& grads) {
  const int64_t hv = s.value_heads, most = heads_together(hv);
  const std::vector<Part> parts = parts_of(s.heads, hv);
  const int64_t per_group = (s.group() + most - 1) / most;
  const auto grouped = [&](const Tensor& t) {
    return t.defined() && s.group() > 1 && t.size(t.rank() == 1 ? 0 : 1) == s.heads;
  };
  const bool add_gates = grouped(in.g) || grouped(in.beta);
  grads.v = Tensor::empty(ctx, in.v.shape());
  if (in.w.defined()) grads.w = Tensor::empty(ctx, in.w.shape());
  const auto parts_like = [&](const Tensor& t) {
    if (!t.defined()) return Tensor();
    return Tensor::empty(ctx, {per_group, t.size(0), s.heads, s.key_dim});
  };
  const Tensor dq = parts_like(in.q), dk = parts_like(in.k), dp = parts_like(in.p);
  const auto run = [&](int64_t seq, int64_t index, float* memory) {
    const Part& part = parts[static_cast<size_t>(index)];
    const int64_t begin = seq_starts[seq], step = begin * s.micro_steps;
    std::array<DeltaBackward, kMostTogether> heads;
    for (int64_t i = 0; i < part.count; ++i) {
      const int64_t j = part.first + i;
      DeltaBackward& head = heads[static_cast<size_t>(i)];
      head.in = head_of(config, in, s, begin, seq_starts[seq + 1], j);
      head.states = rows<const float>(saved.states, chunks[static_cast<size_t>(seq)], j, hv);
      head.written = rows<const float>(saved.written, step, j, hv);
      head.d_o = rows<const float>(d_out, begin, j, hv);
      head.carry = grads.initial_states.data() + (seq * hv + j) * s.state();
      const int64_t slot = j % s.group() / most;
      head.grads.q = rows<float>(dq.select(0, slot), begin, j, hv);
      head.grads.k = rows<float>(dk.select(0, slot), step, j, hv);
      if (dp.defined()) head.grads.p = rows<float>(dp.select(0, slot), step, j, hv);
      head.grads.v = rows<float>(grads.v, step, j, hv);
      head.grads.g = g_parts.defined() ? rows<float>(g_parts.select(0, seq), 0, j, hv)
                                       : rows<float>(grads.g, begin, j, hv);
      head.grads.beta = rows<float>(grads.beta, step, j, hv);
      head.grads.w = rows<float>(grads.w, step, j, hv);
      head.add = add_gates;
    }
    plan.backward({heads.data(), static_cast<size_t>(part.count)}, part.group, memory);
  };
  const int64_t together = add_gates ? per_group : 1;
  const int64_t tasks = s.sequences * std::ssize(parts) / together;
  ScratchSlots scratch(ctx, tasks, plan.backward_scratch());
  parallel_for(ctx, tasks, 1, [&](int64_t task, int64_t) {
    const ScratchSlots::Lease lease(scratch);
    for (int64_t i = task * together; i < (task + 1) * together; ++i)
      run(i / std::ssize(parts), i % std::ssize(parts), lease.data());
  });
  grads.q = sum_parts(ctx, dq);
  grads.k = sum_parts(ctx, dk);
  if (dp.defined()) grads.p = sum_parts(ctx, dp);
}

// The backward pass under a decay per channel. The value heads of a key head add into the same
// gradients of q and k: they are taken one after the other. Otherwise a task takes as many heads as
// a call.
void backward_dplr(const Context& ctx, const RecurrenceConfig& config, const RecurrenceInputs& in,
                   std::span<const int64_t> seq_starts, const Sizes& s, const DplrPlan& plan,
                   std::span<const int64_t> chunks, const RecurrenceSaved& saved,
                   const Tensor& d_out, const Tensor& g_parts, RecurrenceGrads& grads) {
  grads.q = grad_like(ctx, in.q, s);
  grads.k = grad_like(ctx, in.k, s);
  grads.v = grad_like(ctx, in.v, s);
  grads.w = grad_like(ctx, in.w, s);
  grads.b = grad_like(ctx, in.b, s);
  grads.p = grad_like(ctx, in.p, s);
  const int64_t hv = s.value_heads;
  const auto head = [&](int64_t seq, int64_t j) {
    const int64_t begin = seq_starts[static_cast<size_t>(seq)], step = begin * s.micro_steps;
    DeltaBackward b;
    b.in = head_of(config, in, s, begin, seq_starts[static_cast<size_t>(seq) + 1], j);
    b.states = rows<const float>(saved.states, chunks[static_cast<size_t>(seq)], j, hv);
    b.written = rows<const float>(saved.written, step, j, hv);
    b.d_o = rows<const float>(d_out, begin, j, hv);
    b.carry = grads.initial_states.data() + (seq * hv + j) * s.state();
    b.grads.q = rows<float>(grads.q, begin, j, hv);
    b.grads.k = rows<float>(grads.k, step, j, hv);
    b.grads.v = rows<float>(grads.v, step, j, hv);
    b.grads.g = g_parts.defined() ? rows<float>(g_parts.select(0, seq), 0, j, hv)
                                  : rows<float>(grads.g, begin, j, hv);
    b.grads.beta = rows<float>(grads.beta, step, j, hv);
    b.grads.b = rows<float>(grads.b, step, j, hv);
    b.grads.w = rows<float>(grads.w, step, j, hv);
    b.grads.p = rows<float>(grads.p, step, j, hv);
    b.add = s.group() > 1;
    return b;
  };
  const int64_t together = s.group() > 1 ? 1 : heads_together(hv);  // of a call
  const int64_t each = s.group() > 1 ? s.group() : together;        // of a task
  const int64_t tasks = (hv + each - 1) / each;
  ScratchSlots scratch(ctx, s.sequences * tasks, plan.backward_scratch());
  parallel_for(ctx, s.sequences * tasks, 1, [&](int64_t task, int64_t) {
    const ScratchSlots::Lease lease(scratch);
    const int64_t seq = task / tasks, first = task % tasks * each;
    for (int64_t j = first; j < std::min(hv, first + each); j += together) {
      std::array<DeltaBackward, kMostTogether> heads;
      const int64_t count = std::min(together, hv - j);
      for (int64_t i = 0; i < count; ++i) heads[static_cast<size_t>(i)] = head(seq, j + i);
      plan.backward({heads.data(), static_cast<size_t>(count)}, lease.data());
    }
  });
}

}  // namespace

RecurrenceGrads recurrence_backward(const Context& ctx, const RecurrenceConfig& config,
                                    const RecurrenceInputs& in, std::span<const int64_t> seq_starts,
                                    const RecurrenceSaved& saved, const Tensor& d_out,
                                    const Tensor& d_final_states) {
  const Sizes s = check_all(config, in, seq_starts);
  RecurrenceGrads grads;
  grads.g = grad_like(ctx, in.g, s);
  grads.beta = grad_like(ctx, in.beta, s);
  grads.initial_states = begin_carry(ctx, s, d_final_states);
  const Plan plan(config, s.key_dim, s.value_dim);
  const std::vector<int64_t> chunks = chunk_starts(plan, s, seq_starts);
  BRAID_CHECK(saved.states.defined() && saved.states.size(0) == chunks.back());
  for (int64_t i = 0; i < s.sequences && ctx.counters != nullptr; ++i) {
    ctx.count_product(recurrence_backward_flops(config, seq_starts[i + 1] - seq_starts[i], s.heads,
                                                s.value_heads, s.key_dim, s.value_dim));
  }
  // A decay that is constant in time is shared by the sequences: summed per sequence first, then
  // over them in order.
  const bool per_head = config.decay == Decay::kPerHead;
  const Tensor g_parts = per_head ? Tensor::zeros(ctx, {s.sequences, in.g.size(0)}) : Tensor();
  if (plan.shared) {
    backward_shared(ctx, config, in, seq_starts, s, *plan.shared, chunks, saved, d_out, g_parts,
                    grads);
  } else {
    backward_dplr(ctx, config, in, seq_starts, s, *plan.dplr, chunks, saved, d_out, g_parts, grads);
  }
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
