#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "braid/base/clock.h"
#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/cli/command.h"
#include "braid/cli/eval_against.h"
#include "braid/cli/evaluate_shown.h"
#include "braid/cli/run_model.h"
#include "braid/importers/gguf_load.h"
#include "braid/infer/generate.h"
#include "braid/infer/positions.h"
#include "braid/report/compress.h"
#include "braid/train/checkpoint.h"
#include "braid/train/run.h"

namespace braid {
namespace {

struct Flags {
  std::string model, data;
  bool binary = false, compare = false;
  int64_t batch = 8, seq_len = 0, tokens = 0;
  AgainstFlags against;
  LoadFlags load;
  CommonFlags common;
};

// Holds the unpacked text while it is evaluated.
struct TemporaryFolder {
  TemporaryFolder() {
    const char* base = std::getenv("TMPDIR");
    path = join_path(base != nullptr ? base : "/tmp", format("braid-eval-{}", getpid()));
  }
  ~TemporaryFolder() {
    try {
      remove_folder(path);
    } catch (const Error&) {  // left behind: the result matters more
    }
  }
  std::string path;
};

// Windows as long as those that the model was trained on, where that is known.
int64_t trained_length(const std::string& model) {
  constexpr int64_t kUnknown = 1024;
  if (is_hf_folder(model) || is_gguf_file(model)) return kUnknown;
  const Checkpoint checkpoint{checkpoint_folder(model), 0};
  if (!path_exists(join_path(checkpoint.path, "train/state.json"))) return kUnknown;
  return checkpoint_state(checkpoint).at("seq_len").as_int();
}

Workload one_chunk(const LoadedModel&) { return {kPrefillChunk, 1}; }

// What nobody typed is cut to what a sequence of the model may have.
int64_t window(const Flags& f, const ModelSettings& model) {
  if (f.seq_len == 0) return std::min(trained_length(f.model), most_tokens(model));
  require_room(model, "--seq-len", f.seq_len);
  return f.seq_len;
}

// All of --data to be evaluated on; `cache` is a folder to unpack into.
DataOptions whole_data(const Flags& f, const std::string& cache) {
  DataOptions options;
  options.path = f.data;
  options.allow_binary = f.binary;
  options.cache_folder = cache;
  options.held_out_share = 1.0;
  options.held_out_most = INT64_MAX;
  return options;
}

int run_against(const Flags& f, const Context& ctx) {
  std::string text;
  if (!f.data.empty()) {
    const TemporaryFolder scratch;
    text = TrainData::open(whole_data(f, scratch.path)).held_out_text();
  }
  return eval_against(f.common, ctx,
                      load_any_model(ctx, f.model, f.load.options(f.common, one_chunk)), f.model,
                      text, f.against);
}

int run(const Flags& f) {
  const bool against = !f.against.reference.empty();
  if (against && f.compare)
    throw Error(ErrorKind::kUsage, "--compare is for bpb; --against gives KL and agreement");
  if (!against && !f.against.tokens_file.empty())
    throw Error(ErrorKind::kUsage, "--tokens-file is for --against; bpb is of a text (--data)");
  if (f.data.empty() == f.against.tokens_file.empty())
    throw Error(ErrorKind::kUsage, "give either a text (--data) or, with --against, --tokens-file");
  const Context ctx = f.common.context();
  if (against) return run_against(f, ctx);
  const LoadedModel loaded = load_any_model(ctx, f.model, f.load.options(f.common, one_chunk));
  const Tokenizer& tokenizer = require_tokenizer(loaded, f.model);
  const int64_t seq_len = window(f, loaded.model->settings());
  const TemporaryFolder scratch;
  DataOptions options = whole_data(f, scratch.path);
  if (!tokenizer.is_bytes()) options.tokenizer = {loaded.tokenizer, "model", {}, {}};
  const TrainData data = TrainData::open(options);
  if (const std::string lossy = data.lossy(); !lossy.empty())
    std::fprintf(stderr, "[%s]\n", lossy.c_str());
  warn_beyond_trained(*loaded.model, seq_len);
  const double start = now_seconds();
  const Evaluation e = evaluate_shown(
      ctx, *loaded.model, data.held_out(f.batch, seq_len, f.tokens > 0 ? f.tokens : INT64_MAX));
  const double took = now_seconds() - start;
  if (e.targets == 0) {
    throw Error(ErrorKind::kBadInput,
                format("{} holds {} bytes of text; at least 2 {} are needed", f.data,
                       data.held_out_text().size(), tokenizer.is_bytes() ? "bytes" : "tokens"));
  }
  Json out = Json::object({{"bpb", e.bits_per_byte()},
                           {"nats_per_token", e.nats_per_token()},
                           {"perplexity", std::exp(e.nats_per_token())},
                           {"tokens", e.targets},
                           {"bytes", e.bytes},
                           {"seq_len", seq_len},
                           {"seconds", took},
                           {"tokens_per_second", static_cast<double>(e.targets) / took}});
  if (f.compare) {
    out.set("gzip9_bpb", gzip9_bits_per_byte(data.held_out_text()));
    out.set("xz9_bpb", xz9_bits_per_byte(data.held_out_text()));
  }
  if (f.common.json) {
    std::puts(out.dump().c_str());
  } else {
    for (const Json::Member& m : out.members())
      std::printf("%-18s %s\n", m.key.c_str(),
                  (m.value.kind() == Json::Kind::kReal ? format("{:.6g}", m.value.as_real())
                                                       : m.value.dump())
                      .c_str());
  }
  return 0;
}

}  // namespace

std::function<int()> setup_eval(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  const auto positive = CLI::Range(int64_t{1}, int64_t{1} << 40);
  app.add_option("-m,--model", f->model, "Run, checkpoint or Hugging Face folder, or .gguf file")
      ->required();
  app.add_option("--data", f->data, "Text: a file, a folder, .gz, .zst, .dz or .jsonl");
  app.add_flag("--data-binary", f->binary, "Accept files that are not text");
  app.add_option(
         "--seq-len", f->seq_len,
         "Tokens (bytes, for a model of bytes) that a prediction may look back (0 = as the run "
         "was trained; 1024 where that is not known, less for a model of fewer positions)")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  app.add_option("--batch", f->batch, "Windows at once")->capture_default_str()->check(positive);
  app.add_option("--tokens", f->tokens, "Only the first so many tokens (0 = all)")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 60));
  app.add_flag("--compare", f->compare, "Also what gzip -9 and xz -9 make of the same text");
  f->against.add(app);
  f->load.add(app);
  f->common.add(app);
  app.footer("Example: braid eval -m demo/run --data book.txt --compare");
  return [f] { return run(*f); };
}

}  // namespace braid
