#include "braid/infer/memory.h"

#include <algorithm>

#include "braid/infer/generate.h"
#include "braid/infer/positions.h"
#include "braid/ops/weight_product.h"

namespace braid {
namespace {

// Dry weights of those types; their bytes.
size_t set_types(const Context& ctx, Model& model, std::span<const WeightType> types) {
  BRAID_CHECK(types.size() == static_cast<size_t>(std::ranges::distance(model.parameters())));
  size_t bytes = 0;
  auto type = types.begin();
  for (Parameter& p : model.parameters()) {
    bytes += bytes_as(p, *type);
    if (*type == WeightType::kF32) {
      set_f32(p, Tensor::empty(ctx, p.value.shape()));
    } else {
      set_weight(p, pack_weight(ctx, *type, p.value.shape(), [](int64_t, float*) {}));
    }
    ++type;
  }
  return bytes;
}

bool needs_library(const Model& model) {
  for (const AttendingLayer& layer : attending_layers(model)) {
    if (layer.attender->needs_library()) return true;
  }
  return std::ranges::any_of(model.parameters(), [](const Parameter& p) {
    return p.value.shape().rank() > 1 &&
           product_needs_library(p.weight ? p.weight->type() : WeightType::kF32, p.value.size(-1));
  });
}

}  // namespace

std::vector<WeightType> weight_types(const Model& model) {
  std::vector<WeightType> types;
  for (const Parameter& p : model.parameters())
    types.push_back(p.weight ? p.weight->type() : WeightType::kF32);
  return types;
}

std::vector<WeightType> weight_types(const Model& model, WeightType wanted) {
  std::vector<WeightType> types;
  for (const Parameter& p : model.parameters()) types.push_back(weight_type_for(p, wanted));
  return types;
}

MemoryNeed inference_memory(int threads, const ModelSettings& settings,
                            std::span<const WeightType> types, const Workload& work) {
  Context ctx;
  ctx.threads = threads;
  ctx.arena = Arena::create(Arena::Mode::kDry);
  Model model(ctx, settings, Model::Fill::kDeferred);
  MemoryNeed need;
  need.weights = set_types(ctx, model, types);
  const size_t before = ctx.arena->stats().reserved;
  const int64_t most = most_tokens(settings);
  const int64_t prompt = std::clamp<int64_t>(work.prompt, 1, most);
  const int64_t total = prompt + std::clamp<int64_t>(work.decode, 0, most - prompt);
  SequenceState sequence = model.new_sequence(ctx, work.state);
  const std::vector<int32_t> ids(static_cast<size_t>(total), 0);
  const std::span<const int32_t> all(ids);
  advance(ctx, model, sequence, all.first(static_cast<size_t>(prompt)));
  // The scratch of a step follows from its context alone: the first and the last step, and between
  // them the state grows in chunks.
  for (int64_t at = prompt; at < total;) {
    const int64_t n = at == prompt ? 1 : std::max<int64_t>(1, total - 1 - at);
    advance(ctx, model, sequence, all.subspan(static_cast<size_t>(at), static_cast<size_t>(n)));
    at += n;
  }
  need.state = model.state_bytes(total, work.state);
  need.scratch = ctx.arena->stats().reserved - before;
  need.scratch -= std::min(need.scratch, need.state);
  need.scratch += work.results;
  if (!needs_library(model)) need.process = kOwnProcessBytes;
  return need;
}

}  // namespace braid
