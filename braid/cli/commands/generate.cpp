#include "braid/infer/generate.h"

#include <cstdio>
#include <iterator>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/json.h"
#include "braid/cli/command.h"
#include "braid/cli/run_model.h"
#include "braid/state/state_file.h"

namespace braid {
namespace {

struct Flags {
  std::string model;
  std::string prompt;
  std::string prompt_file;
  std::string load_state, save_state;
  GenerateConfig config;
  std::function<bool()> seed_given;
  bool greedy = false;
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
                                   {"state_bytes", seq.bytes()}});
    std::puts(out.dump().c_str());
    return;
  }
  std::fprintf(stderr,
               "\n[prefill %zd tokens, %.0f tokens/s; decode %zd tokens, %.0f tokens/s; %s]\n",
               static_cast<ssize_t>(r.prompt_tokens), prefill_rate, std::ssize(r.tokens),
               decode_rate, r.finish.c_str());
}

int run(Flags& f) {
  if (f.greedy) f.config.sampling.temperature = 0;
  check_sampling(f.config.sampling);
  const Context ctx = f.common.context();
  const std::unique_ptr<Model> model = load_run_model(ctx, f.model);
  require_bytes(model->settings());
  SequenceState seq = model->new_sequence(ctx);
  if (!f.load_state.empty()) {
    load_sequence(ctx, f.load_state, *model, seq);
    std::fprintf(stderr, "[state %s: %zd tokens reused]\n", f.load_state.c_str(),
                 std::ssize(seq.tokens));
  }
  const int64_t reused = std::ssize(seq.tokens);
  if (reused > 0 && !f.seed_given()) f.config.sampling.seed = seq.seed;
  const std::string prompt = prompt_text(f);
  const bool stream = !f.common.json;
  if (stream) {
    std::fputs(prompt.c_str(), stdout);
    std::fflush(stdout);
  }
  watch_interrupt();
  const GenerateResult r =
      generate(ctx, *model, seq, byte_tokens(prompt), f.config, [&](std::string_view piece) {
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
  app.add_option("-m,--model", f->model, "Run, checkpoint or Hugging Face folder")->required();
  app.add_option("-p,--prompt", f->prompt, "Text to continue");
  app.add_option("--prompt-file", f->prompt_file, "The same from a file");
  app.add_option("-n,--max-tokens", f->config.max_tokens, "Tokens to write")
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
  app.add_option("--load-state", f->load_state, "Continue a sequence saved by --save-state");
  app.add_option("--save-state", f->save_state,
                 "Save the whole sequence, to be continued bit for bit");
  f->common.add(app);
  app.footer(
      "Example: braid generate -m demo/run -p \"A model is\" -n 200 --temp 0.8 --top-p 0.95");
  return [f] { return run(*f); };
}

}  // namespace braid
