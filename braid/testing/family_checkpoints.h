#pragma once
// Tiny random checkpoints of families in their real names, whole and damaged.

#include <algorithm>
#include <string>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/formats/safetensors_folder.h"
#include "braid/importers/load.h"
#include "braid/importers/random_weights.h"
#include "braid/testing/scratch_folder.h"
#include "braid/testing/tiny_configs.h"

namespace braid::testing {

constexpr uint64_t kTinyShard = 20'000;  // several files even for these

inline const TinyConfig& tiny_config(const std::string& name) {
  for (const TinyConfig& c : tiny_configs()) {
    if (name == c.name) return c;
  }
  throw Error(ErrorKind::kInternal, "no tiny config is " + name);
}

// The folder of a config alone, then of the same with random weights.
inline std::string make_checkpoint(const Context& ctx, const ScratchFolder& at,
                                   const TinyConfig& config, const std::string& dtype) {
  const std::string bare = at / (std::string(config.name) + ".config");
  make_folders(bare);
  write_file(join_path(bare, "config.json"), config.json);
  const std::string to = at / (std::string(config.name) + "." + dtype);
  write_random_checkpoint(ctx, bare, to, dtype, 7, kTinyShard);
  return to;
}

inline std::vector<int32_t> tiny_ids(int64_t begin, int64_t end) {
  std::vector<int32_t> ids;
  for (int64_t i = begin; i < end; ++i) ids.push_back(static_cast<int32_t>((i * 7 + 3) % 64));
  return ids;
}

// Logits of one sequence fed in pieces.
inline std::vector<float> logits_of(const Context& ctx, Model& model,
                                    const std::vector<int64_t>& pieces) {
  SequenceState sequence = model.new_sequence(ctx);
  SequenceState* const one[] = {&sequence};
  std::vector<float> out;
  int64_t at = 0;
  for (const int64_t n : pieces) {
    Batch batch;
    batch.seq_starts = {0, n};
    batch.offsets = {at};
    const Tensor logits = model.logits(ctx, model.hidden(ctx, tiny_ids(at, at + n), batch, one));
    out.insert(out.end(), logits.data(), logits.data() + logits.count());
    at += n;
  }
  return out;
}

// The checkpoint with one tensor left out, added or in another shape.
inline std::string broken_checkpoint(const std::string& folder, const std::string& to,
                                     const std::string& drop, const std::string& add,
                                     bool reshape) {
  const SafetensorsFolder before = SafetensorsFolder::open(folder);
  make_folders(to);
  write_file(join_path(to, "config.json"), read_file(join_path(folder, "config.json")));
  SafetensorsFolderWriter writer(to);
  for (const std::string& name : before.names()) {
    if (name == drop && !reshape) continue;
    const SafetensorsFolder::Found f = before.at(name);
    std::vector<int64_t> shape = f.entry->shape;
    if (name == drop) shape = {f.entry->count(), 1, 1};
    writer.add(name, f.entry->dtype, shape,
               [f](ByteSink sink) { sink(f.bytes().data(), f.bytes().size()); });
  }
  if (!add.empty()) writer.add(add, "F32", {2}, [](ByteSink sink) { sink("\0\0\0\0\0\0\0\0", 8); });
  writer.write();
  return to;
}

// What loading says, "" when it loads; anything but a bad input is thrown on.
inline std::string load_error(const Context& ctx, const std::string& folder) {
  try {
    load_model(ctx, folder);
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kBadInput) throw;
    return e.what();
  }
  return "";
}

inline std::string config_error(const std::string& json) {
  try {
    read_config(parse_config(json), "config.json");
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kBadInput) throw;
    return e.what();
  }
  return "";
}

// The settings of a config.json, or what is wrong with it.
inline std::string settings_of(const std::string& json) {
  try {
    return print_settings(read_config(parse_config(json), "config.json").model.settings);
  } catch (const Error& e) {
    return e.what();
  }
}

inline bool says(const std::string& text, const std::string& what) {
  return text.find(what) != std::string::npos;
}

}  // namespace braid::testing
