#include "braid/infer/sequence_file.h"

#include <utility>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/state/state_file.h"

namespace braid {
namespace {

// What a state belongs to: the settings and the very weights that made it.
std::string model_identity(const Model& model) {
  FileDigest digest;
  ModelSettings read = model.settings();
  read.max_position_embeddings = 0;  // what no layer reads
  read.init = ModelSettings{}.init;
  read.seed = ModelSettings{}.seed;
  const std::string settings = print_settings(read);
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

// The state as the file has it, of the kinds of `like`. What does not fit is said with the file's
// name.
SequenceState load_named(const std::string& path, const Model& model, const SequenceState& like,
                         StateReader& in) {
  SequenceState sequence = like.snapshot();
  try {
    sequence.load(in);
  } catch (Error& e) {
    if (std::string_view(e.what()).find(path) == std::string_view::npos) e.add_context(path);
    throw;
  }
  check_sequence(path, model, sequence);
  return sequence;
}

}  // namespace

void load_sequence(const Context& ctx, const std::string& path, const Model& model,
                   SequenceState& sequence) {
  StateFileReader in = open_state(ctx, path, model);
  sequence = load_named(path, model, sequence, in);
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
  SequenceState loaded = load_named(path, model, sequence, in);
  if (in.integer("has_earlier") != 0) {
    EarlierReader second(in);
    earlier = load_named(path, model, earlier, second);
  }
  sequence = std::move(loaded);
  notes = in.text("notes");
}

}  // namespace braid
