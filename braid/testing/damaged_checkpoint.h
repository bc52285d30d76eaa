#pragma once
// A tiny checkpoint cut short and with bytes changed: every one is an error that names what is
// wrong in a line, or loads; nothing crashes, hangs, or asks for memory beyond what the files can
// hold.

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/importers/load.h"
#include "braid/importers/random_weights.h"
#include "braid/stack/weights.h"
#include "braid/testing/family_checkpoints.h"
#include "braid/testing/scratch_folder.h"

namespace braid::testing {

struct Damaged {
  ScratchFolder scratch{"damage"};
  std::string model = scratch / "model";  // a folder, or a .gguf file
  int64_t loaded = 0, refused = 0;
  int64_t most_lines = 1;  // of an error; a stack expression and the mark below it are two more

  // A config.json with random weights.
  Damaged(const std::string& config, uint64_t shard_bytes) {
    const Context ctx;
    make_folders(scratch / "config");
    write_file(scratch / "config/config.json", config);
    write_random_checkpoint(ctx, scratch / "config", model, "BF16", 1, shard_bytes);
  }

  void attempt(const std::string& what) {
    Context ctx;
    ctx.arena = Arena::create(Arena::Mode::kReal, size_t{64} << 20);
    try {
      load_model(ctx, model);
      ++loaded;
    } catch (const Error& e) {
      ++refused;
      const bool known = e.kind() == ErrorKind::kBadInput || e.kind() == ErrorKind::kBudget;
      CHECK_MESSAGE(known, what, ": ", e.what());
      const std::string said = e.what();
      CHECK_MESSAGE(std::count(said.begin(), said.end(), '\n') < most_lines, what, ": ", said);
    }
  }

  void check_file(const std::string& name, size_t flipped_bytes, size_t cut_step) {
    const std::string path = name.empty() ? model : join_path(model, name);
    const std::string whole = read_file(path);
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

// The same in braid's own form, weights in q8.
inline void make_own(Damaged& d) {
  const Context ctx;
  const LoadedModel loaded = load_model(ctx, d.model, {.weights = WeightType::kQ8});
  d.model = d.scratch / "own";
  make_folders(d.model);
  SafetensorsWriter writer;
  add_weights(writer, loaded.model->parameters());
  writer.write(join_path(d.model, "weights.safetensors"));
  write_file(join_path(d.model, "model.toml"), print_settings(loaded.model->settings()));
  d.most_lines = 3;
}

// The header of a safetensors file and some of the data.
inline size_t header_bytes(const std::string& path) {
  const std::string bytes = read_file(path);
  size_t n = 0;
  for (int i = 7; i >= 0; --i)
    n = n << 8 | static_cast<unsigned char>(bytes[static_cast<size_t>(i)]);
  return n + 64;
}

}  // namespace braid::testing
