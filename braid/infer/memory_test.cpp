#include "braid/infer/memory.h"

#include <doctest/doctest.h>

#include "braid/ops/attention.h"

namespace braid {
namespace {

// What the process itself is taken to hold where every weight that may be packed is.
size_t process_bytes(const char* stack, int64_t meta_tokens = 0) {
  ModelSettings s;
  s.stack = parse_stack(stack, known_layers());
  s.width = 64;
  s.heads = 2;
  s.head_dim = 32;
  s.meta_tokens = meta_tokens;
  Context dry;
  dry.arena = Arena::create(Arena::Mode::kDry);
  const Model model(dry, s, Model::Fill::kDeferred);
  return inference_memory(1, s, weight_types(model, WeightType::kQ8), {.prompt = 8}).process;
}

size_t expected(AttentionConfig config) {
  return attention_needs_library(config) ? kProcessBytes : kOwnProcessBytes;
}

TEST_CASE("a process holds a library's kernels where a layer's attention takes them") {
  AttentionConfig heads{2, 2, 32, 1, 0};
  const size_t f32 = expected(heads);
  heads.rounded = true;
  CHECK(process_bytes("gqa, swiglu") == expected(heads));
  // The layer's own size of a head counts, not the model's.
  heads.head_dim = 24;
  CHECK(process_bytes("gqa{heads=2,head_dim=24}, swiglu") == expected(heads));
  CHECK(process_bytes("gqa{heads=2,head_dim=24}, swiglu") == kProcessBytes);
  // So do rows that no window leaves out.
  CHECK(process_bytes("gqa{window=4}, swiglu", 2) == kProcessBytes);
  CHECK(process_bytes("fox, swiglu") == f32);
  CHECK(process_bytes("diff{head_dim=16}, swiglu") == f32);
  for (const char* stack : {"moba, swiglu", "nsa{kv_heads=1}, swiglu", "mla, swiglu"}) {
    CAPTURE(stack);
    CHECK(process_bytes(stack) == kProcessBytes);
  }
}

}  // namespace
}  // namespace braid
