#include "braid/bench/model.h"

#include <algorithm>
#include <vector>

#include "braid/base/format.h"
#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"
#include "braid/state/kv_state.h"
#include "braid/state/matrix_state.h"

namespace braid {
namespace {

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

}  // namespace braid
