// Every cut and every changed byte of what stands before the numbers of a GGUF file and of a folder
// of braid's own.

#include "braid/formats/gguf.h"
#include "braid/importers/gguf_export.h"
#include "braid/testing/damaged_checkpoint.h"

namespace braid::testing {
namespace {

// Of bytes, so that it needs no tokenizer.
constexpr const char* kBytes = R"({"model_type":"llama","vocab_size":256,"hidden_size":32,
  "num_hidden_layers":1,"num_attention_heads":4,"num_key_value_heads":2,"intermediate_size":64,
  "max_position_embeddings":128,"tie_word_embeddings":true,"rms_norm_eps":1e-5})";

void check_whole(Damaged& d) {
  CHECK(d.refused > 1000);
  const int64_t before = d.loaded;
  d.attempt("whole");
  CHECK(d.loaded == before + 1);
}

TEST_CASE("a GGUF file, damaged") {
  for (const GgmlType type : {GgmlType::kF32, GgmlType::kQ8_0}) {
    Damaged d(kBytes, 1 << 30);
    const Context ctx;
    const std::string to = d.scratch / "model.gguf";
    convert_to_gguf(ctx, d.model, type, to);
    d.model = to;
    const GgufFile file = GgufFile::open(to);
    uint64_t numbers = 0;
    for (const GgufTensor& t : file.tensors()) numbers += t.size;
    const size_t before = read_file(to).size() - numbers;
    d.check_file("", before, 97);
    check_whole(d);
  }
}

TEST_CASE("a folder of braid's own with quantised weights, damaged") {
  Damaged d(kBytes, 1 << 30);
  make_own(d);
  d.check_file("model.toml", SIZE_MAX, 1);
  d.check_file("weights.safetensors", header_bytes(join_path(d.model, "weights.safetensors")), 97);
  check_whole(d);
}

}  // namespace
}  // namespace braid::testing
