#include "braid/train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <span>
#include <vector>

#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/formats/safetensors.h"
#include "braid/stack/weights.h"

namespace braid {
namespace {

constexpr int64_t kVersion = 1;
constexpr const char* kManifest = "manifest.json";
constexpr size_t kManifestBytes = size_t{1} << 20;
constexpr const char* kFiles[] = {"model.toml", "weights.safetensors",
                                  "train/optimizer.safetensors", "train/state.json"};
constexpr size_t kModelFiles = 2;  // the first of them

std::string checkpoints_folder(const std::string& run) { return join_path(run, "checkpoints"); }

// "step-40" -> 40
std::optional<int64_t> step_of(std::string_view name) {
  constexpr std::string_view kPrefix = "step-";
  if (!name.starts_with(kPrefix)) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int64_t step = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), step);
  if (error != std::errc() || end != name.data() + name.size() || step < 0) return std::nullopt;
  return step;
}

// Newest first.
std::vector<Checkpoint> list_checkpoints(const std::string& run) {
  std::vector<Checkpoint> all;
  const std::string folder = checkpoints_folder(run);
  if (!is_folder(folder)) return all;
  for (const std::string& name : list_folder(folder)) {
    if (const auto step = step_of(name)) all.push_back({join_path(folder, name), *step});
  }
  std::sort(all.begin(), all.end(),
            [](const Checkpoint& a, const Checkpoint& b) { return a.step > b.step; });
  return all;
}

struct Sum {
  uint64_t bytes = 0;
  std::string digest;
};

Sum sum_of(const std::string& path) {
  const auto file = MappedFile::open(path);
  constexpr size_t kPiece = size_t{16}
                            << 20;  // so that a check does not make the whole file resident
  FileDigest digest;
  for (size_t at = 0; at < file->size(); at += kPiece) {
    digest.add(file->data() + at, std::min(kPiece, file->size() - at));
    file->release_pages();
  }
  return {file->size(), format("{:016x}", digest.value())};
}

void write_manifest(const std::string& folder, int64_t step) {
  Json files = Json::object();
  const auto add = [&](const char* name) {
    const Sum sum = sum_of(join_path(folder, name));
    files.set(name, Json::object({{"bytes", sum.bytes}, {"digest", sum.digest}}));
  };
  for (const char* name : kFiles) add(name);
  for (const char* name : model_text_names()) {
    if (path_exists(join_path(folder, name))) add(name);
  }
  const Json manifest =
      Json::object({{"braid_checkpoint_version", kVersion}, {"step", step}, {"files", files}});
  write_file(join_path(folder, kManifest), manifest.dump_pretty());
}

// Keeps the `keep` newest up to `step`, which was just written. What is newer was passed over as
// damaged when the run resumed, and must not crowd out what is whole.
void remove_old(const std::string& run, int64_t step, int64_t keep) {
  int64_t kept = 0;
  for (const Checkpoint& c : list_checkpoints(run)) {
    if (c.step > step || kept == std::max<int64_t>(1, keep)) {
      remove_folder(c.path);
    } else {
      ++kept;
    }
  }
}

void write_files(const std::string& folder, int64_t step, const ModelSettings& model,
                 const ParameterSet& parameters, const Optimizer& optimizer, const Json& state,
                 const TokenizerFiles& tokenizer, const NamedTexts& beside) {
  make_folders(join_path(folder, "train"));
  write_file(join_path(folder, kFiles[0]), print_settings(model));
  SafetensorsWriter weights;
  add_weights(weights, parameters);
  weights.write(join_path(folder, kFiles[1]));
  SafetensorsWriter moments;
  optimizer.save(moments);
  moments.write(join_path(folder, kFiles[2]));
  write_file(join_path(folder, kFiles[3]), state.dump_pretty());
  const auto write_text = [&](const std::string& name, const std::string& text) {
    if (!text.empty()) write_file(join_path(folder, name), text);
  };
  write_text("tokenizer.json", tokenizer.tokenizer);
  write_text("tokenizer_config.json", tokenizer.config);
  for (const NamedText& t : beside) write_text(t.name, t.text);
  write_manifest(folder, step);
}

Json read_json(const std::string& path, size_t max_bytes) {
  const std::string text = read_file(path, max_bytes);
  try {
    return Json::parse(text);
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

void check_version(const Json& manifest) {
  const int64_t version = manifest.at("braid_checkpoint_version").as_int();
  if (version == kVersion) return;
  throw Error(
      ErrorKind::kBadInput,
      format("it is a checkpoint of version {}; this braid reads version {}", version, kVersion));
}

// Another version is no damage: passing it over would throw away what another braid can read.
void refuse_other_version(const std::string& path) {
  Json manifest;
  try {
    manifest = read_json(join_path(path, kManifest), kManifestBytes);
    manifest.at("braid_checkpoint_version").as_int();
  } catch (const Error&) {
    return;  // damaged: check_checkpoint says how
  }
  try {
    check_version(manifest);
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

void check_files(const std::string& path, std::span<const char* const> names) {
  const Json manifest = read_json(join_path(path, kManifest), kManifestBytes);
  try {
    check_version(manifest);
    const Json& files = manifest.at("files");
    std::vector<const char*> all(names.begin(), names.end());
    for (const char* name : model_text_names()) {
      if (files.find(name) != nullptr) all.push_back(name);
    }
    for (const char* name : all) {
      const Json& want = files.at(name);
      const Sum have = sum_of(join_path(path, name));
      if (have.bytes != want.at("bytes").as_uint() ||
          have.digest != want.at("digest").as_string()) {
        throw Error(
            ErrorKind::kBadInput,
            format("{} has {} bytes and digest {}, but {} and {} were written", name, have.bytes,
                   have.digest, want.at("bytes").as_uint(), want.at("digest").as_string()));
      }
    }
  } catch (Error& e) {
    throw e.add_context(path);
  }
}

}  // namespace

void save_checkpoint(const std::string& run_folder, int64_t step, const ModelSettings& model,
                     const ParameterSet& parameters, const Optimizer& optimizer, const Json& state,
                     int64_t keep, const TokenizerFiles& tokenizer, const NamedTexts& beside) {
  const std::string name = format("step-{}", step);
  const std::string unfinished = join_path(checkpoints_folder(run_folder), ".unfinished");
  remove_folder(unfinished);
  try {
    write_files(unfinished, step, model, parameters, optimizer, state, tokenizer, beside);
    replace_folder(unfinished, join_path(checkpoints_folder(run_folder), name));
  } catch (const Error&) {
    try {
      remove_folder(unfinished);  // gives a full disk its space back
    } catch (const Error&) {
      // The first error says more.
    }
    throw;
  }
  make_link("checkpoints/" + name, join_path(run_folder, "latest"));
  remove_old(run_folder, step, keep);
}

void check_checkpoint(const std::string& path) { check_files(path, kFiles); }

void check_checkpoint_model(const std::string& path) {
  if (!path_exists(join_path(path, kManifest))) return;
  check_files(path, std::span(kFiles).first<kModelFiles>());
}

bool has_checkpoints(const std::string& run_folder) {
  return !list_checkpoints(run_folder).empty();
}

std::optional<Checkpoint> find_checkpoint(const std::string& run_folder,
                                          const std::function<void(const std::string&)>& message) {
  std::string problems;
  for (const Checkpoint& c : list_checkpoints(run_folder)) {
    refuse_other_version(c.path);
    try {
      check_checkpoint(c.path);
      return c;
    } catch (const Error& e) {
      problems += format("{}{}", problems.empty() ? "" : "; ", e.what());
      if (message) message(format("passed over a damaged checkpoint: {}", e.what()));
    }
  }
  if (problems.empty()) return std::nullopt;
  throw Error(ErrorKind::kBadInput,
              format("{}: no checkpoint can be used: {}", run_folder, problems));
}

Json checkpoint_state(const Checkpoint& checkpoint) {
  return read_json(join_path(checkpoint.path, kFiles[3]), size_t{1} << 24);
}

Json load_checkpoint(const Context& ctx, const Checkpoint& checkpoint, ParameterSet& parameters,
                     Optimizer& optimizer) {
  load_weights(ctx, SafetensorsFile::open(join_path(checkpoint.path, kFiles[1])), parameters);
  optimizer.load(SafetensorsFile::open(join_path(checkpoint.path, kFiles[2])));
  return checkpoint_state(checkpoint);
}

std::string checkpoint_folder(const std::string& folder) {
  if (path_exists(join_path(folder, "weights.safetensors"))) return folder;
  const std::string latest = join_path(folder, "latest");
  if (path_exists(join_path(latest, "weights.safetensors"))) return latest;
  if (!path_exists(folder))
    throw Error(ErrorKind::kBadInput, format("{}: there is no such file or folder", folder));
  throw Error(
      ErrorKind::kBadInput,
      format("{} holds no checkpoint: neither weights.safetensors nor latest/weights.safetensors",
             folder));
}

}  // namespace braid
