#include "braid/cli/run_model.h"

#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/state/state_file.h"
#include "braid/train/checkpoint.h"

namespace braid {

LoadedModel load_any_model(const Context& ctx, const std::string& folder,
                           const LoadOptions& options) {
  std::string path = folder;
  if (!is_hf_folder(folder)) {
    path = checkpoint_folder(folder);
    check_checkpoint_model(path);
  }
  LoadedModel loaded = load_model(ctx, path, options);
  for (const std::string& note : loaded.notes) std::fprintf(stderr, "[%s]\n", note.c_str());
  return loaded;
}

std::unique_ptr<Model> load_run_model(const Context& ctx, const std::string& folder) {
  return load_any_model(ctx, folder).model;
}

void require_bytes(const ModelSettings& model) {
  if (model.vocab == 256) return;
  throw Error(ErrorKind::kUsage,
              format("the model has a vocabulary of {}; text as bytes needs 256", model.vocab));
}

namespace {

// What a state belongs to: the settings and the very weights that made it.
std::string model_identity(const Model& model) {
  FileDigest digest;
  const std::string settings = print_settings(model.settings());
  digest.add(settings.data(), settings.size());
  for (const Parameter& p : model.parameters()) digest.add(p.value.data(), p.value.bytes());
  return format("{:016x}", digest.value());
}

}  // namespace

void save_sequence(const std::string& path, const Model& model, const SequenceState& sequence) {
  StateFileWriter out;
  out.text("stack", model.canonical_stack());
  out.text("model", model_identity(model));
  sequence.save(out);
  out.write(path);
}

void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence) {
  StateFileReader in(ctx, path);
  if (in.text("stack") != model.canonical_stack()) {
    throw Error(ErrorKind::kBadInput, format("{} is a state of \"{}\", the model is \"{}\"", path,
                                             in.text("stack"), model.canonical_stack()));
  }
  if (const std::string id = model_identity(model); in.text("model") != id) {
    throw Error(
        ErrorKind::kBadInput,
        format("{} is a state of other weights or settings of the same stack (digest {}, the "
               "model's is {})",
               path, in.text("model"), id));
  }
  sequence.load(in);
}

}  // namespace braid
