// A tiny checkpoint cut short and with bytes changed: every one is an error that names the file, or
// loads; nothing crashes, hangs, or asks for memory beyond what the files can hold.

#include <doctest/doctest.h>

#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/importers/random_weights.h"
#include "braid/testing/scratch_folder.h"
#include "braid/testing/tiny_configs.h"

namespace braid::testing {
namespace {

struct Damaged {
  ScratchFolder scratch{"damage"};
  std::string folder = scratch / "model";
  int64_t loaded = 0, refused = 0;

  Damaged(const char* family, uint64_t shard_bytes) {
    const Context ctx;
    make_folders(scratch / "config");
    for (const TinyConfig& c : tiny_configs()) {
      if (std::string(c.name) == family) write_file(scratch / "config/config.json", c.json);
    }
    write_random_checkpoint(ctx, scratch / "config", folder, "BF16", 1, shard_bytes);
  }

  void attempt(const std::string& what) {
    Context ctx;
    ctx.arena = Arena::create(Arena::Mode::kReal, size_t{64} << 20);
    try {
      load_model(ctx, folder);
      ++loaded;
    } catch (const Error& e) {
      ++refused;
      const bool known = e.kind() == ErrorKind::kBadInput || e.kind() == ErrorKind::kBudget;
      CHECK_MESSAGE(known, what, ": ", e.what());
      CHECK_MESSAGE(std::string(e.what()).find('\n') == std::string::npos, what, ": ", e.what());
    }
  }

  void check_file(const std::string& name, size_t flipped_bytes, size_t cut_step) {
    const std::string path = join_path(folder, name), whole = read_file(path);
    for (size_t n = 0; n < whole.size(); n += n < 128 ? 1 : cut_step) {
      write_file(path, whole.substr(0, n));
      attempt(format("{} cut to {} bytes", name, n));
    }
    for (size_t at = 0; at < std::min(flipped_bytes, whole.size()); ++at) {
      for (const int bits : {0x01, 0x10, 0x80}) {
        std::string changed = whole;
        changed[at] = static_cast<char>(changed[at] ^ bits);
        write_file(path, changed);
        attempt(format("{} with byte {} changed by {}", name, at, bits));
      }
    }
    write_file(path, whole);
  }
};

// Header, and some of the data.
size_t header_bytes(const std::string& path) {
  const std::string bytes = read_file(path);
  size_t n = 0;
  for (int i = 7; i >= 0; --i)
    n = n << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
  return n + 64;
}

TEST_CASE("a checkpoint of one file, damaged") {
  Damaged d("llama", 1 << 30);
  d.check_file("config.json", SIZE_MAX, 1);
  const std::string weights = join_path(d.folder, "model.safetensors");
  d.check_file("model.safetensors", header_bytes(weights), 211);
  CHECK(d.refused > 1000);
  const int64_t before = d.loaded;
  d.attempt("whole");
  CHECK(d.loaded == before + 1);
}

TEST_CASE("a checkpoint in shards, damaged") {
  Damaged d("gpt_oss", 8000);
  d.check_file("model.safetensors.index.json", SIZE_MAX, 7);
  CHECK(d.refused > 1000);
  const int64_t before = d.loaded;
  d.attempt("whole");
  CHECK(d.loaded == before + 1);
}

}  // namespace
}  // namespace braid::testing
