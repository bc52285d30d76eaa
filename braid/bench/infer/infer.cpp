// Reading and writing text with weights of every type: a model shaped like Qwen3 1.7B with fewer
// layers, random weights of more than 300 MB.

#include <memory>

#include "braid/base/format.h"
#include "braid/bench/decode_cost.h"
#include "braid/bench/harness.h"
#include "braid/bench/model.h"
#include "braid/infer/generate.h"
#include "braid/ops/weight.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

constexpr int64_t kWidth = 2048, kVocab = 32768, kPrefill = 2048, kContext = 512;
constexpr const char* kAttention = "gqa{kv_heads=8,qk_norm=head}";
constexpr WeightType kTypes[] = {WeightType::kF32, WeightType::kBF16, WeightType::kQ8,
                                 WeightType::kQ4, WeightType::kQ4Min};

// Numbers of about the size of trained weights; speed does not depend on more.
struct Noise {
  uint64_t state;
  float next() {
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (static_cast<float>(state >> 40) * 0x1p-23f - 1.0f) * 0.04f;
  }
};

std::unique_ptr<Model> random_model(const Context& ctx, const std::string& stack, WeightType type) {
  ModelSettings s = bench_settings(stack, "prenorm", kWidth);
  s.head_dim = 128;
  s.vocab = kVocab;
  auto model = std::make_unique<Model>(ctx, s, Model::Fill::kDeferred);
  for (Parameter& p : model->parameters()) {
    const WeightType own = weight_type_for(p, type);
    const Shape shape = p.value.shape();
    const int64_t cols = shape[-1];
    const auto fill = [&](int64_t row, float* out) {
      Noise noise{static_cast<uint64_t>(row) * 0x9E3779B97F4A7C15u + 1};
      for (int64_t i = 0; i < cols; ++i) out[i] = noise.next();
    };
    if (own != WeightType::kF32) {
      set_weight(p, pack_weight(ctx, own, shape, fill));
      continue;
    }
    Tensor value =
        p.role == ParamRole::kVector ? Tensor::full(ctx, shape, 1.0f) : Tensor::empty(ctx, shape);
    for (int64_t r = 0; p.role != ParamRole::kVector && r < shape.count() / cols; ++r) {
      fill(r, value.data() + r * cols);
    }
    set_f32(p, value);
  }
  return model;
}

// Weights of one token, all but the experts it is not sent to, and what it sees of the state, read
// once.
double bytes_per_token(const Model& model, int64_t context) {
  const double active = 1 - static_cast<double>(model.idle_parameters()) /
                                static_cast<double>(model.parameters().trained_count());
  return static_cast<double>(model.parameters().bytes()) * active +
         static_cast<double>(model.state_read_bytes(context));
}

void decode(Bench& bench, const std::string& name, WeightType type, int64_t layers,
            int64_t context) {
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  const std::string stack = format("{} x ({}, swiglu{{ffn=6144}})", layers, kAttention);
  const std::unique_ptr<Model> model = random_model(ctx, stack, type);
  SequenceState sequence = synthetic_sequence(ctx, *model, context);
  const double bytes = bytes_per_token(*model, context);
  const int32_t token = 17;
  bench.measure(
      {.name = name,
       .shape = format("{:.0f} MB a token, {:.0f} of them state, {} layers", bytes * 1e-6,
                       static_cast<double>(model->state_read_bytes(context)) * 1e-6, layers),
       .work = bytes,
       .limit = Limit::kRead,
       .run = [&] {
         advance(ctx, *model, sequence, {&token, 1});
       }});
}

std::vector<int32_t> some_tokens() {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < kPrefill; ++i) ids.push_back(static_cast<int32_t>(i * 7919 % kVocab));
  return ids;
}

void prefill(const Context& ctx, Model& model, std::span<const int32_t> ids) {
  SequenceState fresh = model.new_sequence(ctx);
  advance(ctx, model, fresh, ids);
}

void bench_prefill(Bench& bench, WeightType type) {
  const std::string name = format("prefill/{}", weight_type_name(type));
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  const auto model = random_model(ctx, format("2 x ({}, swiglu{{ffn=6144}})", kAttention), type);
  const std::vector<int32_t> ids = some_tokens();
  const double flops = bench.product_flops([&] { prefill(ctx, *model, ids); });
  bench.measure({.name = name,
                 .shape = format("{} tokens, width {}, 2 layers", kPrefill, kWidth),
                 .work = flops,
                 .limit = Limit::kPeak,
                 .run = [&] { prefill(ctx, *model, ids); }});
}

// Four of 32 experts of a quarter of the dense width each: the same products a token.
void bench_experts(Bench& bench, WeightType type) {
  const std::string name = format("prefill/moe/{}", weight_type_name(type));
  if (!bench.wants(name)) return;
  const Context& ctx = bench.context();
  const auto dense = random_model(ctx, format("{}, swiglu{{ffn=6144}}", kAttention), type);
  const auto moe =
      random_model(ctx, format("{}, moe{{experts=32,top_k=4,ffn=1536}}", kAttention), type);
  const std::vector<int32_t> ids = some_tokens();
  const double flops = bench.product_flops([&] { prefill(ctx, *dense, ids); });
  bench.measure({.name = name,
                 .shape = format("{} tokens, 4 of 32 experts of 1536, 1 layer", kPrefill),
                 .work = flops,
                 .limit = Limit::kPeak,
                 .run = [&] { prefill(ctx, *moe, ids); },
                 .rival_name = "dense",
                 .rival = [&] { prefill(ctx, *dense, ids); }});
}

}  // namespace

void bench_infer(Bench& bench) {
  for (const WeightType type : kTypes) {
    const int64_t layers = is_quantised(type) ? (type == WeightType::kQ8 ? 5 : 10) : 2;
    decode(bench, format("decode/{}", weight_type_name(type)), type, layers, kContext);
  }
  for (const WeightType type : {WeightType::kBF16, WeightType::kQ8}) {
    decode(bench, format("decode/16k/{}", weight_type_name(type)), type, 3, 16384);
  }
  for (const WeightType type : kTypes) bench_prefill(bench, type);
  for (const WeightType type : {WeightType::kF32, WeightType::kQ8, WeightType::kQ4}) {
    bench_experts(bench, type);
  }
}

}  // namespace braid
