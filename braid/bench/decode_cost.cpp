#include "braid/bench/decode_cost.h"

#include "braid/base/clock.h"
#include "braid/base/rng.h"
#include "braid/base/stats.h"
#include "braid/core/parallel.h"
#include "braid/layers/mixer.h"

namespace braid {
namespace {

// Stands in for a saved state: every length is `context`, every tensor random.
class SyntheticState final : public StateReader {
 public:
  SyntheticState(const Context& ctx, int64_t context) : ctx_(ctx), context_(context) {}

  Tensor tensor(std::string_view name, Shape shape, DType dtype) override {
    for (int i = 0; i < shape.rank(); ++i) {
      if (shape[i] < 0) shape[i] = context_;
    }
    Tensor t = Tensor::zeros(ctx_, shape, dtype);
    if (dtype != DType::kF32) return t;
    const Rng rng(0, name);
    parallel_for(ctx_, t.count(), 1 << 14, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        t.data()[i] = static_cast<float>(0.1 * (rng.uniform(static_cast<uint64_t>(i)) - 0.5));
      }
    });
    return t;
  }

  // Lengths are the context; the type of keys and values is that of a fresh sequence, f32.
  int64_t integer(std::string_view name) override { return name.ends_with("type") ? 0 : context_; }

 private:
  const Context& ctx_;
  int64_t context_;
};

void replace_mixers(std::vector<StackItem>& items) {
  for (StackItem& item : items) {
    replace_mixers(item.items);
    if (item.layers.empty() || find_mixer(item.layers[0].name) == nullptr) continue;
    if (item.layers.size() == 1 && item.layers[0].name == "gqa") continue;
    item.layers.assign(1, LayerSpec{"gqa", {}});
  }
}

}  // namespace

void fill_state(const Context& ctx, LayerState& state, int64_t context) {
  SyntheticState source(ctx, context);
  state.load(source, "");
}

SequenceState synthetic_sequence(const Context& ctx, const Model& model, int64_t context) {
  SequenceState seq = model.new_sequence(ctx);
  const int64_t meta = model.settings().meta_tokens;
  for (const std::unique_ptr<LayerState>& state : seq.layers) {
    if (state) fill_state(ctx, *state, context > 0 ? context + meta : 0);
  }
  seq.tokens.assign(static_cast<size_t>(context), 0);
  return seq;
}

std::vector<DecodeCost> measure_decode(const Context& ctx, Model& model,
                                       std::span<const int64_t> contexts,
                                       double seconds_per_context) {
  std::vector<DecodeCost> costs;
  for (const int64_t context : contexts) {
    SequenceState seq = synthetic_sequence(ctx, model, context);
    DecodeCost cost{context, 0, model.state_bytes(context)};
    std::vector<double> times;
    const double start = now_seconds();
    while (times.size() < 5 || now_seconds() - start < seconds_per_context) {
      const int64_t at = std::ssize(seq.tokens);
      SequenceState* const one[] = {&seq};
      Batch batch;
      batch.seq_starts = {0, 1};
      batch.offsets = {at};
      const int32_t token = static_cast<int32_t>(at % model.settings().vocab);
      const double begin = now_seconds();
      model.logits(ctx, model.hidden(ctx, {&token, 1}, batch, one));
      times.push_back(now_seconds() - begin);
    }
    cost.ms = median(times) * 1e3;
    costs.push_back(cost);
  }
  return costs;
}

ModelSettings attention_everywhere(ModelSettings settings) {
  replace_mixers(settings.stack.items);
  return settings;
}

}  // namespace braid
