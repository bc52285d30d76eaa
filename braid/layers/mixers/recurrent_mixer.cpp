#include "braid/layers/mixers/recurrent_mixer.h"

#include <cmath>

#include "braid/base/error.h"
#include "braid/ops/conv.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/view.h"
#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"
#include "braid/state/matrix_state.h"

namespace braid {
namespace {

bool convolves(const RecurrentMemory& m) { return m.taps > 0 && !m.conv_channels.empty(); }

template <typename State>
State& as(LayerState& state) {
  auto* s = dynamic_cast<State*>(&state);
  BRAID_CHECK(s != nullptr);
  return *s;
}

}  // namespace

RecurrentStates::RecurrentStates(const RecurrentMemory& memory, States states) : states_(states) {
  const bool group = convolves(memory);
  if (group) windows_.resize(memory.conv_channels.size());
  for (LayerState* state : states) {
    LayerState& matrix = group ? as<GroupState>(*state).member(0) : *state;
    matrices_.push_back(as<MatrixState>(matrix).matrix().data());
    for (size_t i = 0; i < windows_.size(); ++i) {
      windows_[i].push_back(as<ConvState>(as<GroupState>(*state).member(i + 1)).window());
    }
  }
}

std::span<const Tensor> RecurrentStates::windows(size_t conv) const {
  if (conv >= windows_.size()) return {};
  return windows_[conv];
}

void RecurrentStates::advance(const Batch& batch) const {
  for (size_t s = 0; s < states_.size(); ++s) {
    const int64_t tokens = batch.length(static_cast<int64_t>(s));
    if (windows_.empty()) {
      as<MatrixState>(*states_[s]).advance(tokens);
      continue;
    }
    auto& group = as<GroupState>(*states_[s]);
    as<MatrixState>(group.member(0)).advance(tokens);
    for (size_t i = 1; i < group.size(); ++i) as<ConvState>(group.member(i)).advance(tokens);
  }
}

std::unique_ptr<LayerState> RecurrentMixer::make_state(const Context& ctx,
                                                       const StateOptions&) const {
  const HeadSizes& n = memory_.sizes;
  auto matrix = std::make_unique<MatrixState>(ctx, n.value_heads, n.key_dim, n.value_dim);
  if (!convolves(memory_)) return matrix;
  std::vector<std::unique_ptr<LayerState>> members;
  members.push_back(std::move(matrix));
  for (const int64_t channels : memory_.conv_channels) {
    members.push_back(std::make_unique<ConvState>(ctx, memory_.taps, channels));
  }
  return std::make_unique<GroupState>(std::move(members));
}

size_t RecurrentMixer::state_bytes(int64_t, const StateOptions&) const {
  const HeadSizes& n = memory_.sizes;
  int64_t floats = n.value_heads * n.key_dim * n.value_dim;
  if (convolves(memory_)) {
    for (const int64_t channels : memory_.conv_channels) floats += (memory_.taps - 1) * channels;
  }
  return static_cast<size_t>(floats) * sizeof(float);
}

Parameter* conv_filter(ParamBuilder& params, const std::string& name, int64_t channels,
                       int64_t taps) {
  if (taps == 0) return nullptr;
  // A torch Conv1d's default: uniform within 1 / sqrt(inputs of one output).
  const double bound = 1.0 / std::sqrt(static_cast<double>(taps));
  return &params.vector(name, {channels, 1, taps}, Init::uniform(-bound, bound));
}

Tensor conv_silu(const Context& ctx, const Tensor& x, Parameter* filter, const Batch& batch,
                 std::span<const Tensor> windows, Parameter* bias) {
  if (filter == nullptr) return silu(ctx, x);
  return short_conv(ctx, x, *filter, batch.seq_starts, true, windows, bias);
}

QkvFront::QkvFront(ParamBuilder& params, const LayerEnv& env, const HeadSizes& sizes, int64_t taps,
                   int64_t steps)
    : sizes_(sizes) {
  const auto projection = [&](const char* name, int64_t rows) {
    Parameter& p = params.matrix(name, rows * steps, env.width, env.init_std);
    if (steps > 1) p.row_splits.assign(static_cast<size_t>(steps), rows);
    return &p;
  };
  q_ = &params.matrix("q_proj.weight", sizes.keys(), env.width, env.init_std);
  k_ = projection("k_proj.weight", sizes.keys());
  v_ = projection("v_proj.weight", sizes.values());
  q_conv_ = conv_filter(params, "q_conv1d.weight", sizes.keys(), taps);
  k_conv_ = conv_filter(params, "k_conv1d.weight", sizes.keys() * steps, taps);
  v_conv_ = conv_filter(params, "v_conv1d.weight", sizes.values() * steps, taps);
}

QkvFront::Qkv QkvFront::operator()(const Context& ctx, std::span<const Tensor> projected,
                                   const Batch& batch, const RecurrentStates& kept) const {
  const auto by_head = [&](size_t i, Parameter* filter, int64_t heads, int64_t dim) {
    const Tensor y = conv_silu(ctx, projected[i], filter, batch, kept.windows(i));
    return reshape(ctx, y, {y.count() / (heads * dim), heads, dim});
  };
  return {by_head(0, q_conv_, sizes_.heads, sizes_.key_dim),
          by_head(1, k_conv_, sizes_.heads, sizes_.key_dim),
          by_head(2, v_conv_, sizes_.value_heads, sizes_.value_dim)};
}

Tensor constant_decays(const Context& ctx, std::span<const double> rates) {
  Tensor g = Tensor::empty(ctx, {static_cast<int64_t>(rates.size())});
  for (size_t h = 0; h < rates.size() && !ctx.dry(); ++h) {
    g.data()[h] = static_cast<float>(-rates[h]);
  }
  return g;
}

Tensor as_heads(const Context& ctx, const Tensor& x, int64_t heads) {
  return reshape(ctx, x, {x.size(0), heads, x.size(1) / heads});
}

}  // namespace braid
