#include "braid/infer/generate.h"
#include "braid/infer/sequence_file.h"

#include <cstdio>
#include <iterator>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/cli/command.h"
#include "braid/cli/draft.h"
#include "braid/cli/output_path.h"
#include "braid/cli/run_model.h"
#include "braid/state/state_file.h"

namespace braid {
namespace {

struct Flags {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  std::string load_state, save_state;
  std::string kv = "f32";
  GenerateConfig config;
  std::function<bool()> seed_given;
  CLI::App* app = nullptr;
  bool greedy = false;
  bool ignore_eos = false;
  std::string draft;
  int64_t draft_ngram = 0;
  LoadFlags load;
  CommonFlags common;
};

std::string prompt_text(const Flags& f) {
  if (!f.prompt_file.empty() && !f.prompt.empty()) {
    throw Error(ErrorKind::kUsage, "--prompt and --prompt-file are both given; use one");
  }
  return f.prompt_file.empty() ? f.prompt : read_file(f.prompt_file, size_t{1} << 30);
}

void report(const Flags& f, const GenerateResult& r, const SequenceState& seq, int64_t reused) {
  const double prefill_rate =
      static_cast<double>(r.prompt_tokens) / std::max(1e-9, r.prefill_seconds);
  const double decode_rate =
      static_cast<double>(r.tokens.size()) / std::max(1e-9, r.decode_seconds);
  if (f.common.json) {
    const Json out = Json::object({{"text", r.text},
                                   {"finish", r.finish},
                                   {"prompt_tokens", r.prompt_tokens},
                                   {"reused_tokens", reused},
                                   {"generated_tokens", std::ssize(r.tokens)},
                                   {"prefill_seconds", r.prefill_seconds},
                                   {"prefill_tokens_per_second", prefill_rate},
                                   {"decode_seconds", r.decode_seconds},
                                   {"decode_tokens_per_second", decode_rate},
                                   {"draft_tokens", r.draft.drafted},
                                   {"draft_accepted", r.draft.accepted},
                                   {"passes", r.draft.passes},
                                   {"draft_off", r.draft.off},
                                   {"state_bytes", seq.bytes()}});
    std::puts(out.dump().c_str());
    return;
  }
  std::fprintf(stderr,
               "\n[prefill %zd tokens, %.0f tokens/s; decode %zd tokens, %.0f tokens/s; %s]\n",
               static_cast<ssize_t>(r.prompt_tokens), prefill_rate, std::ssize(r.tokens),
               decode_rate, finish_words(r).c_str());
  if (r.draft.drafted > 0) {
    std::fprintf(stderr, "[%zd of %zd drafted tokens were right; %zd passes]\n",
                 static_cast<ssize_t>(r.draft.accepted), static_cast<ssize_t>(r.draft.drafted),
                 static_cast<ssize_t>(r.draft.passes));
  }
  if (!r.draft.off.empty())
    std::fprintf(stderr, "[drafting was slower and is off: %s]\n", r.draft.off.c_str());
}

Workload workload(const Flags& f, const LoadedModel& loaded) {
  const std::vector<int32_t> ids =
      require_tokenizer(loaded, f.model).encode(prompt_text(f), EncodeOptions{});
  return {std::ssize(ids) + 1, f.config.max_tokens, {parse_kv_type(f.kv)}};
}

int run(Flags& f) {
  if (f.greedy) f.config.sampling.temperature = 0;
  check_sampling(f.config.sampling);
  require_output_file("--save-state", f.save_state);
  const Context ctx = f.common.context();
  const LoadedModel loaded = load_any_model(
      ctx, f.model, f.load.options(f.common, [&](const LoadedModel& m) { return workload(f, m); }));
  const Tokenizer& tokenizer = require_tokenizer(loaded, f.model);
  Model* model = loaded.model.get();
  apply_defaults(loaded.generation, *f.app, f.config.sampling);
  if (!f.ignore_eos) f.config.eos = loaded.generation.eos;
  const Draft draft = make_draft(ctx, f.draft, f.draft_ngram, *loaded.model, f.load.options());
  f.config.drafter = draft.drafter.get();
  SequenceState seq = model->new_sequence(ctx, {parse_kv_type(f.kv)});
  if (!f.load_state.empty()) {
    load_sequence(ctx, f.load_state, *model, seq);
    std::fprintf(stderr, "[state %s: %zd tokens reused]\n", f.load_state.c_str(),
                 std::ssize(seq.tokens));
  }
  const int64_t reused = std::ssize(seq.tokens);
  if (reused > 0 && !f.seed_given()) f.config.sampling.seed = seq.seed;
  const std::string prompt = prompt_text(f);
  EncodeOptions encoding;
  encoding.add_special_tokens = reused == 0;
  const std::vector<int32_t> ids = tokenizer.encode(prompt, encoding);
  check_prompt(*model, seq, ids);
  const bool stream = !f.common.json;
  if (stream) {
    std::fputs(prompt.c_str(), stdout);
    std::fflush(stdout);
  }
  watch_interrupt();
  warn_beyond_trained(*model, reused + std::ssize(ids) + f.config.max_tokens);
  const GenerateResult r =
      generate(ctx, *model, tokenizer, seq, ids, f.config, [&](std::string_view piece) {
        if (stream) {
          std::fwrite(piece.data(), 1, piece.size(), stdout);
          std::fflush(stdout);
        }
        return !interrupted();
      });
  if (stream) std::fputc('\n', stdout);
  report(f, r, seq, reused);
  if (!f.save_state.empty()) save_sequence(f.save_state, *model, seq);
  return r.finish == "interrupted" ? static_cast<int>(ErrorKind::kInterrupted) : 0;
}

}  // namespace

std::function<int()> setup_generate(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  SamplingConfig& s = f->config.sampling;
  f->app = &app;
  app.add_option("-m,--model", f->model, "Run, checkpoint or Hugging Face folder, or .gguf file")
      ->required();
  app.add_option("-p,--prompt", f->prompt, "Text to continue");
  app.add_option("--prompt-file", f->prompt_file, "The same from a file");
  app.add_option("-n,--max-tokens", f->config.max_tokens,
                 "Tokens to write; fewer where the model's learned positions end")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{1} << 40));
  app.add_option("--temp,--temperature", s.temperature, "Temperature; 0 is greedy")
      ->capture_default_str();
  app.add_flag("--greedy", f->greedy, "Always the most likely token");
  app.add_option("--top-k", s.top_k, "Only the k best; 0 is off")->capture_default_str();
  app.add_option("--top-p", s.top_p, "Only the best that make up this mass; 1 is off")
      ->capture_default_str();
  app.add_option("--min-p", s.min_p,
                 "Only tokens with this share of the best probability; 0 is off")
      ->capture_default_str();
  app.add_option("--repeat-penalty", s.repetition_penalty, "Penalty of tokens seen; 1 is off")
      ->capture_default_str();
  app.add_option("--repeat-window", s.repetition_window, "Last tokens that count as seen; 0 is all")
      ->capture_default_str();
  CLI::Option* seed =
      app.add_option("-s,--seed", s.seed, "Seed of the sampler (default 0, or the loaded state's)");
  f->seed_given = [seed] { return seed->count() > 0; };
  app.add_option("--stop", f->config.stops, "Stop before this text (may be repeated)")
      ->allow_extra_args(false);
  app.add_flag("--ignore-eos", f->ignore_eos, "Go on after the model's end token");
  app.add_option(
      "--draft", f->draft,
      "A smaller model with the same vocabulary that guesses ahead; the text stays the same");
  app.add_option("--draft-ngram", f->draft_ngram,
                 "Guess what followed the last N tokens before; 0 is off")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{64}));
  app.add_option("--kv", f->kv, "Type of kept keys and values: f32, bf16 or q8")
      ->capture_default_str();
  app.add_option("--load-state", f->load_state, "Continue a sequence saved by --save-state");
  app.add_option("--save-state", f->save_state,
                 "Save the whole sequence, to be continued bit for bit");
  f->load.add(app);
  f->common.add(app);
  app.footer(
      "Sampling flags that are not given are those of the model's generation_config.json, if it "
      "has one.\n"
      "Example: braid generate -m demo/run -p \"A model is\" -n 200 --temp 0.8 --top-p 0.95");
  return [f] { return run(*f); };
}

}  // namespace braid
