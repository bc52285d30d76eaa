#include "braid/cli/run_model.h"

#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/cli/sequence_file.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/model_path.h"
#include "braid/infer/positions.h"
#include "braid/state/state_file.h"
#include "braid/train/checkpoint.h"

namespace braid {

void LoadFlags::add(CLI::App& app) {
  app.add_option("--weights", weights,
                 "Keep matrices as f32, bf16, q8, q4 or q4min (default: as the file has them)")
      ->check(CLI::IsMember({"f32", "bf16", "q8", "q4", "q4min"}));
}

LoadOptions LoadFlags::options() const {
  LoadOptions out;
  if (!weights.empty()) out.weights = weight_type_named(weights);
  return out;
}

LoadOptions LoadFlags::options(const CommonFlags& common, WorkloadOf work) const {
  LoadOptions out = options();
  if (common.mem.empty()) return out;
  out.before_fill = [&common, work = std::move(work)](const LoadedModel& loaded,
                                                      std::span<const WeightType> types) {
    const Workload w = work(loaded);
    const MemoryNeed need = inference_memory(common.threads, loaded.model->settings(), types, w);
    common.require_memory(
        {{"weights", need.weights}, {"state", need.state}, {"scratch", need.scratch}},
        format("the model with {} tokens", w.prompt + w.decode),
        "ask for smaller --weights or --kv or for fewer tokens");
  };
  return out;
}

LoadedModel load_any_model(const Context& ctx, const std::string& folder,
                           const LoadOptions& options) {
  require_model(folder);
  std::string path = folder;
  if (!is_hf_folder(folder) && !is_gguf_file(folder)) {
    path = checkpoint_folder(folder);
    check_checkpoint_model(path);
  }
  LoadedModel loaded = load_model(ctx, path, options);
  for (const std::string& note : loaded.notes) std::fprintf(stderr, "[%s]\n", note.c_str());
  return loaded;
}

std::unique_ptr<Model> load_run_model(const Context& ctx, const std::string& folder,
                                      const LoadOptions& options) {
  return load_any_model(ctx, folder, options).model;
}

void warn_beyond_trained(const Model& model, int64_t tokens) {
  static bool said = false;
  const std::string why = said ? "" : beyond_trained(model, tokens);
  if (why.empty()) return;
  said = true;
  std::fprintf(stderr, "[%s]\n", why.c_str());
}

void require_bytes(const ModelSettings& model) {
  if (model.vocab == 256) return;
  throw Error(ErrorKind::kUsage,
              format("the model has a vocabulary of {}; text as bytes needs 256", model.vocab));
}

const Tokenizer& require_tokenizer(const LoadedModel& loaded, const std::string& folder) {
  if (loaded.tokenizer != nullptr) return *loaded.tokenizer;
  throw Error(ErrorKind::kBadInput,
              format("{} has neither tokenizer.json nor tiktoken.model, and a vocabulary of {} is "
                     "not bytes; `braid logits --tokens` works without",
                     folder, loaded.model->settings().vocab));
}

void apply_defaults(const GenerationDefaults& defaults, const CLI::App& app,
                    SamplingConfig& config) {
  const auto given = [&](const char* flag) { return app.get_option(flag)->count() > 0; };
  if (given("--greedy")) return;
  if (defaults.temperature && !given("--temp")) config.temperature = *defaults.temperature;
  if (defaults.min_p && !given("--min-p")) config.min_p = *defaults.min_p;
  if (defaults.repetition_penalty && !given("--repeat-penalty"))
    config.repetition_penalty = *defaults.repetition_penalty;
  if (defaults.top_p && !given("--top-p")) config.top_p = *defaults.top_p;
  if (defaults.top_k && !given("--top-k")) config.top_k = *defaults.top_k;
}

namespace {

// What a state belongs to: the settings and the very weights that made it.
std::string model_identity(const Model& model) {
  FileDigest digest;
  const std::string settings = print_settings(model.settings());
  digest.add(settings.data(), settings.size());
  for (const Parameter& p : model.parameters()) {
    if (p.weight == nullptr) {
      digest.add(p.value.data(), p.value.bytes());
    } else {
      digest.add(p.weight->bytes().data<uint8_t>(), p.weight->bytes().bytes());
    }
  }
  return format("{:016x}", digest.value());
}

}  // namespace

namespace {

constexpr const char* kEarlier = "earlier.";

// A second state in the same file.
class EarlierWriter final : public StateWriter {
 public:
  explicit EarlierWriter(StateWriter& out) : out_(out) {}
  void tensor(std::string_view name, const Tensor& value) override {
    out_.tensor(kEarlier + std::string(name), value);
  }
  void integer(std::string_view name, int64_t value) override {
    out_.integer(kEarlier + std::string(name), value);
  }

 private:
  StateWriter& out_;
};

class EarlierReader final : public StateReader {
 public:
  explicit EarlierReader(StateReader& in) : in_(in) {}
  Tensor tensor(std::string_view name, Shape shape, DType dtype) override {
    return in_.tensor(kEarlier + std::string(name), shape, dtype);
  }
  int64_t integer(std::string_view name) override {
    return in_.integer(kEarlier + std::string(name));
  }

 private:
  StateReader& in_;
};

}  // namespace

void save_sequence(const std::string& path, const Model& model, const SequenceState& sequence,
                   const std::string& notes, const SequenceState* earlier) {
  StateFileWriter out;
  out.text("stack", model.canonical_stack());
  out.text("model", model_identity(model));
  if (!notes.empty()) {
    out.text("notes", notes);
    out.integer("has_earlier", earlier != nullptr ? 1 : 0);
  }
  if (earlier != nullptr) {
    EarlierWriter second(out);
    earlier->save(second);
  }
  sequence.save(out);
  out.write(path);
}

void save_sequence(const std::string& path, const Model& model, const SequenceState& sequence) {
  save_sequence(path, model, sequence, "", nullptr);
}

namespace {

// The file, known to be of this model.
StateFileReader open_state(const Context& ctx, const std::string& path, const Model& model) {
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
  return in;
}

// A file's parts can disagree with each other and with the model.
void check_sequence(const std::string& path, const Model& model, const SequenceState& sequence) {
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::kBadInput,
                format("{}: {}; the state is damaged, save it anew", path, what));
  };
  const ModelSettings& s = model.settings();
  for (const int32_t token : sequence.tokens) {
    if (token < 0 || token >= s.vocab)
      refuse(format("token {} is outside the vocabulary of {}", token, s.vocab));
  }
  if (sequence.logits.defined() && sequence.logits.count() != s.vocab)
    refuse(format("{} logits for a vocabulary of {}", sequence.logits.count(), s.vocab));
  const int64_t tokens = std::ssize(sequence.tokens);
  const int64_t rows = tokens == 0 ? 0 : tokens + s.meta_tokens;
  for (const auto& layer : sequence.layers) {
    if (layer != nullptr && layer->length() != rows)
      refuse(format("{} tokens, but its layers have seen {}", rows, layer->length()));
  }
}

// What does not fit is said with the file's name.
void load_named(const std::string& path, const Model& model, SequenceState& sequence,
                StateReader& in) {
  try {
    sequence.load(in);
  } catch (Error& e) {
    if (std::string_view(e.what()).find(path) == std::string_view::npos) e.add_context(path);
    throw;
  }
  check_sequence(path, model, sequence);
}

}  // namespace

void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence) {
  StateFileReader in = open_state(ctx, path, model);
  load_named(path, model, sequence, in);
}

void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence, std::string& notes, SequenceState& earlier) {
  StateFileReader in = open_state(ctx, path, model);
  if (!in.has_text("notes")) {
    throw Error(
        ErrorKind::kBadInput,
        format("{} is a sequence of `braid generate --save-state`, which knows of no turns; "
               "go on with `braid generate --load-state`, or save a chat with /save",
               path));
  }
  notes = in.text("notes");
  if (in.integer("has_earlier") != 0) {
    EarlierReader second(in);
    load_named(path, model, earlier, second);
  }
  load_named(path, model, sequence, in);
}

}  // namespace braid
