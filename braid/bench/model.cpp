#include "braid/bench/model.h"

#include <algorithm>

#include "braid/base/clock.h"
#include "braid/base/format.h"
#include "braid/infer/generate.h"
#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"
#include "braid/state/kv_state.h"
#include "braid/state/matrix_state.h"

namespace braid {
namespace {

constexpr int kCostTokens = 24;  // at each context, after two that touch the memory first
constexpr int kFirstTokens = 2;

void pretend(const Context& ctx, LayerState& state, int64_t tokens, const std::vector<float>& row) {
  if (auto* group = dynamic_cast<GroupState*>(&state)) {
    for (size_t i = 0; i < group->size(); ++i) pretend(ctx, group->member(i), tokens, row);
  } else if (auto* matrix = dynamic_cast<MatrixState*>(&state)) {
    matrix->advance(tokens);
  } else if (auto* conv = dynamic_cast<ConvState*>(&state)) {
    conv->advance(tokens);
  } else if (auto* kv = dynamic_cast<KvState*>(&state)) {
    // Stride 0: every position gets the same row. In pieces, so that a window never holds more.
    constexpr int64_t kPiece = 4096;
    for (int64_t left = tokens; left > 0; left -= kPiece) {
      kv->append(ctx, row.data(), 0, row.data(), 0, std::min(left, kPiece));
      kv->forget();
    }
  } else {
    throw Error(ErrorKind::kInternal,
                format("a state of kind \"{}\" cannot be filled for a benchmark", state.kind()));
  }
}

}  // namespace

ModelSettings bench_settings(std::string_view stack, std::string_view residual, int64_t width) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = width;
  s.residual = parse_named(residual, "residual");
  return s;
}

void pretend_context(const Context& ctx, SequenceState& sequence, int64_t tokens) {
  const std::vector<float> row(size_t{1} << 16, 0.01f);  // longer than any row of all kv heads
  for (const auto& state : sequence.layers) {
    if (state) pretend(ctx, *state, tokens, row);
  }
  sequence.tokens.resize(sequence.tokens.size() + static_cast<size_t>(tokens), ' ');
}

std::vector<DecodeCost> measure_decode_costs(const Context& ctx, const ModelSettings& settings,
                                             std::span<const int64_t> contexts) {
  Model model(ctx, settings);
  SequenceState sequence = model.new_sequence(ctx);
  const int32_t token = 'e';
  std::vector<DecodeCost> costs;
  for (const int64_t context : contexts) {
    pretend_context(ctx, sequence, context - std::ssize(sequence.tokens));
    DecodeCost cost;
    cost.context = context;
    cost.state_bytes = static_cast<int64_t>(model.state_bytes(context));
    SequenceState running = sequence.snapshot();
    std::vector<double> seconds;
    for (int i = 0; i < kFirstTokens + kCostTokens; ++i) {
      const double start = now_seconds();
      advance(ctx, model, running, {&token, 1});
      if (i >= kFirstTokens) seconds.push_back(now_seconds() - start);
    }
    std::nth_element(seconds.begin(), seconds.begin() + kCostTokens / 2, seconds.end());
    cost.ms = seconds[kCostTokens / 2] * 1e3;
    costs.push_back(cost);
  }
  return costs;
}

}  // namespace braid
