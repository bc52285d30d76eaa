#include "braid/stack/weights.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>

#include "braid/base/rng.h"
#include "braid/formats/quant_blocks.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

ModelSettings small(const char* stack) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 256;
  s.vocab = 96;
  return s;
}

// The model with its matrices in `type`.
void convert(const Context& ctx, Model& model, WeightType asked) {
  for (Parameter& p : model.parameters()) {
    const WeightType type = weight_type_for(p, asked);
    if (type == WeightType::kF32) continue;
    const int64_t cols = p.value.size(-1);
    set_weight(p, pack_weight(ctx, type, p.value.shape(), [&](int64_t row, float* out) {
                 std::memcpy(out, p.value.data() + row * cols, static_cast<size_t>(cols) * 4);
               }));
  }
}

Tensor logits(const Context& ctx, Model& model, int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>((i * i + 3 * i) % 96));
  return model.logits(ctx, model.hidden(ctx, ids, Batch::uniform(1, tokens)));
}

double divergence(const Tensor& p, const Tensor& q) {
  double total = 0;
  const int64_t n = p.size(1);
  for (int64_t r = 0; r < p.size(0); ++r) {
    const float *a = p.data() + r * n, *b = q.data() + r * n;
    double za = 0, zb = 0;
    for (int64_t i = 0; i < n; ++i) za += std::exp(static_cast<double>(a[i]));
    for (int64_t i = 0; i < n; ++i) zb += std::exp(static_cast<double>(b[i]));
    for (int64_t i = 0; i < n; ++i) {
      const double lp = a[i] - std::log(za), lq = b[i] - std::log(zb);
      total += std::exp(lp) * (lp - lq);
    }
  }
  return total / static_cast<double>(p.size(0));
}

SafetensorsFile in_memory(const SafetensorsWriter& out) {
  auto bytes = std::make_shared<std::string>(out.bytes());
  return SafetensorsFile::parse(bytes, std::as_bytes(std::span(*bytes)), "memory");
}

template <typename F>
std::string message_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a quantised model is close to its f32 self, and the same after a file") {
  Context ctx;
  const ModelSettings settings =
      small("gqa, swiglu, gdn, moe{experts=4,top_k=2,ffn=64,shared=64}, kda, swiglu");
  Model exact(ctx, settings);
  const Tensor want = logits(ctx, exact, 40);
  const struct {
    WeightType type;
    double most;
  } cases[] = {{WeightType::kBF16, 1e-4},
               {WeightType::kQ8, 1e-3},
               {WeightType::kQ4, 0.05},
               {WeightType::kQ4Min, 0.05}};
  size_t bytes = exact.parameters().bytes();
  for (const auto& c : cases) {
    CAPTURE(weight_type_name(c.type));
    Model model(ctx, settings);
    convert(ctx, model, c.type);
    CHECK(model.parameters().bytes() < bytes);
    const Tensor got = logits(ctx, model, 40);
    const double kl = divergence(want, got);
    CHECK(kl <= c.most);
    CHECK(kl > 0);
    SafetensorsWriter out;
    add_weights(out, model.parameters());
    Model again(ctx, settings);
    load_weights(ctx, in_memory(out), again.parameters());
    const Tensor back = logits(ctx, again, 40);
    if (c.type == WeightType::kBF16) {
      CHECK(divergence(got, back) < 1e-9);  // f32 holds bf16
    } else {
      CHECK(std::memcmp(got.data(), back.data(), got.bytes()) == 0);
    }
  }
}

TEST_CASE("GGUF's blocks are rearranged without loss") {
  Context ctx;
  const int64_t rows = 19, cols = 512;
  const struct {
    WeightType type;
    GgmlType blocks;
  } cases[] = {{WeightType::kQ8, GgmlType::kQ8_0},
               {WeightType::kQ4, GgmlType::kQ4_0},
               {WeightType::kQ4Min, GgmlType::kQ4_K}};
  for (const auto& c : cases) {
    CAPTURE(weight_type_name(c.type));
    const int64_t row_bytes = ggml_row_bytes(c.blocks, cols);
    std::vector<std::byte> bytes(static_cast<size_t>(rows * row_bytes));
    const Rng rng(5, "blocks");
    for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(rng.bits(i) & 0xFF);
    const int64_t block = c.blocks == GgmlType::kQ8_0 ? 34 : c.blocks == GgmlType::kQ4_0 ? 18 : 144;
    for (int64_t b = 0; b < std::ssize(bytes); b += block) {  // scales that are plain numbers
      bytes[static_cast<size_t>(b) + 1] = std::byte{0x2A};
      if (c.blocks == GgmlType::kQ4_K) bytes[static_cast<size_t>(b) + 3] = std::byte{0x25};
    }
    const auto weight = repack_weight(ctx, c.type, {rows, cols},
                                      [&](int64_t row) { return bytes.data() + row * row_bytes; });
    std::vector<float> want(static_cast<size_t>(cols)), got(want);
    for (int64_t r = 0; r < rows; ++r) {
      decode_row(c.blocks, bytes.data() + r * row_bytes, cols, want.data());
      weight_row(*weight, r, got.data());
      REQUIRE(std::memcmp(want.data(), got.data(), want.size() * 4) == 0);
    }
  }
}

TEST_CASE("a quantised tensor of another form is refused with both values") {
  Context ctx;
  const Shape shape{64, 64};
  Parameter p;
  p.value = Tensor::zeros(ctx, shape);
  p.weight = pack_weight(ctx, WeightType::kQ8, shape,
                         [](int64_t, float* out) { std::fill_n(out, 64, 1.0f); });
  const auto read = [&](const char* metadata, const Tensor& bytes, const Shape& want) {
    SafetensorsWriter out;
    out.add("w", bytes);
    out.set_metadata("braid.weight.w", metadata);
    return message_of([&] { weight_from_file(in_memory(out), "w", want); });
  };
  const Tensor& good = p.weight->bytes();
  CHECK(read("q8 [64, 64]", good, shape) == "");
  CHECK(read("q9 [64, 64]", good, shape).find("no quantised type") != std::string::npos);
  CHECK(read("f32 [64, 64]", good, shape).find("no quantised type") != std::string::npos);
  CHECK(read("q8 [64, 32]", good, shape).find("the model has [64, 64]") != std::string::npos);
  CHECK(read("q8", good, shape).find("the model has [64, 64]") != std::string::npos);
  CHECK(read("q4 [64, 64]", good, shape).find("4352 bytes, expected 2304") != std::string::npos);
  CHECK(read("q4min [64, 64]", good, shape).find("blocks of 256") != std::string::npos);
  CHECK(read("q8 [64, 64]", Tensor::zeros(ctx, {17, 256}, DType::kU8), shape).find("U8 [4352]") !=
        std::string::npos);
  CHECK(read("q8 [64, 64]", Tensor::zeros(ctx, {1088}), shape).find("expected U8") !=
        std::string::npos);
}

TEST_CASE("a tensor of more dimensions than a shape can have is bad input") {
  Context ctx;
  const std::string header =
      R"({"w":{"dtype":"BF16","shape":[1,1,1,1,1,1,1],"data_offsets":[0,2]}})";
  std::string bytes(8, 0);
  bytes[0] = static_cast<char>(header.size());
  bytes += header + std::string(2, 0);
  const SafetensorsFile file =
      SafetensorsFile::parse(nullptr, std::as_bytes(std::span(bytes)), "memory");
  ParameterSet set;
  set.add("w", ParamRole::kMatrix, Tensor::zeros(ctx, {1, 1}));
  const char* what = "w: has 7 dimensions; at most 6 are supported";
  CHECK(message_of([&] { weight_from_file(file, "w", {1, 1}); }).find(what) != std::string::npos);
  CHECK(message_of([&] { load_weights(ctx, file, set); }).find(what) != std::string::npos);
}

}  // namespace braid
