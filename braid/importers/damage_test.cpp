// Tiny checkpoints of Hugging Face's, damaged; others and more of them in damage_slow_test.cpp.

#include "braid/testing/damaged_checkpoint.h"

namespace braid::testing {
namespace {

TEST_CASE("a checkpoint of one file, damaged") {
  Damaged d(tiny_config("llama").json, 1 << 30);
  d.check_file("config.json", SIZE_MAX, 1);
  const std::string weights = join_path(d.model, "model.safetensors");
  d.check_file("model.safetensors", header_bytes(weights), 211);
  CHECK(d.refused > 1000);
  const int64_t before = d.loaded;
  d.attempt("whole");
  CHECK(d.loaded == before + 1);
}

TEST_CASE("a checkpoint in shards, damaged") {
  Damaged d(tiny_config("gpt_oss").json, 8000);
  d.check_file("model.safetensors.index.json", SIZE_MAX, 7);
  CHECK(d.refused > 1000);
  const int64_t before = d.loaded;
  d.attempt("whole");
  CHECK(d.loaded == before + 1);
}

TEST_CASE("settings that no model has are the fault of the folder they stand in") {
  Damaged d(tiny_config("llama").json, 1 << 30);
  make_own(d);
  const std::string path = join_path(d.model, "model.toml"), whole = read_file(path);
  for (const char* line : {"width = -1\n", "heads = 5\n", "unknown = 1\n"}) {
    CAPTURE(line);
    write_file(path, whole + line);
    d.attempt(line);
  }
  write_file(path, "stack = \"gqa{kv_heads=3}\"\nwidth = 32\nheads = 4\nvocab = 64\n");
  d.attempt("heads");
  CHECK(d.refused == 4);
}

}  // namespace
}  // namespace braid::testing
