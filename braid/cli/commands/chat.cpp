#include "braid/infer/chat.h"
#include "braid/importers/load.h"

#include <unistd.h>

#include <cstdio>
#include <iostream>
#include <iterator>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/cli/command.h"
#include "braid/cli/draft.h"
#include "braid/cli/interrupt.h"
#include "braid/cli/output_path.h"
#include "braid/cli/run_model.h"
#include "braid/importers/gguf_load.h"
#include "braid/importers/gguf_tokenizer.h"
#include "braid/infer/sequence_file.h"
#include "braid/text/utf8_stream.h"
#include "braid/train/checkpoint.h"

namespace braid {
namespace {

constexpr size_t kMostText = size_t{64} << 20;

struct Flags {
  std::string model, system, template_file, tools_file, load;
  std::vector<std::string> variables;
  ChatConfig config;
  CLI::App* app = nullptr;
  bool greedy = false;
  std::string draft;
  std::string kv = "f32";
  int64_t draft_ngram = 0;
  LoadFlags weights;
  CommonFlags common;
};

void say(const std::string& line) { std::fprintf(stderr, "[%s]\n", line.c_str()); }

// The template of --template, else of the model, else ChatML.
struct Wording {
  ChatTemplate text;
  std::vector<std::pair<std::string, Json>> tokens;
  bool own = false;  // of the model, or given
};

Wording model_wording(const Flags& f) {
  Wording w;
  if (is_gguf_file(f.model)) {
    const GgufFile file = GgufFile::open(f.model);
    std::string key = kTemplateKey;
    const std::string with_tools = key + ".tool_use";
    if (!f.config.tools.is_null() && file.find(with_tools) != nullptr) key = with_tools;
    const auto text = file.string(key);
    w.own = text.has_value();
    if (w.own) w.text = ChatTemplate::parse(*text, format("{} ({})", f.model, key));
  } else if (is_folder(f.model)) {
    const std::string folder = is_hf_folder(f.model) ? f.model : checkpoint_folder(f.model);
    if (const auto found = load_chat_template(folder)) {
      w.text = found->choose(!f.config.tools.is_null());
      w.tokens = found->special_tokens;
      w.own = true;
    }
  }
  return w;
}

Wording wording(const Flags& f, const Tokenizer& tokenizer) {
  Wording w = model_wording(f);
  if (!f.template_file.empty()) {
    w.text = ChatTemplate::parse(read_file(f.template_file, kMostText), f.template_file);
    w.own = true;
  }
  if (!w.own) {
    w.text = ChatTemplate::parse(default_chat_template(), "the default template");
    say("the model has no chat template; using <|im_start|>role ... <|im_end|>");
  }
  if (w.tokens.empty()) {
    if (const auto bos = tokenizer.bos_token(); !bos.empty())
      w.tokens.emplace_back("bos_token", bos);
    if (const auto eos = tokenizer.eos_token(); !eos.empty())
      w.tokens.emplace_back("eos_token", eos);
  }
  return w;
}

// What ends an answer.
void add_ends(const LoadedModel& loaded, const Tokenizer& tokenizer, bool own, GenerateConfig& c) {
  c.eos = loaded.generation.eos;
  if (c.eos.empty() && tokenizer.named().eos) c.eos.push_back(*tokenizer.named().eos);
  if (own) return;
  if (const auto id = tokenizer.token_to_id("<|im_end|>")) {
    c.eos.push_back(*id);
  } else {
    c.stops.push_back("<|im_end|>");
  }
}

// "name=value", the value JSON or else a text.
std::pair<std::string, Json> variable(const std::string& text) {
  const size_t at = text.find('=');
  if (at == std::string::npos || at == 0) {
    throw Error(ErrorKind::kUsage, format("--var {}: write it as name=value", printable(text)));
  }
  const std::string value = text.substr(at + 1);
  try {
    return {text.substr(0, at), Json::parse(value)};
  } catch (const Error&) {
    return {text.substr(0, at), Json(value)};
  }
}

double rate(int64_t tokens, double seconds) {
  return static_cast<double>(tokens) / std::max(1e-9, seconds);
}

// The talk: lines in, answers and notes out.
class Talk {
 public:
  Talk(const Flags& f, const Context& ctx, Model& model, Chat& chat)
      : json_(f.common.json),
        terminal_(isatty(STDIN_FILENO) == 1),
        ctx_(ctx),
        model_(model),
        chat_(chat) {}
  int run();
  void load(const std::string& path);

 private:
  bool line(const std::string& text);  // false: leave
  void turn(const std::string& text);
  void command(const std::string& name, const std::string& argument);
  void report(const ChatAnswer& answer);
  // A note to a person, or a JSON line.
  void note(const std::string& text, Json event);
  const bool json_, terminal_;
  const Context& ctx_;
  Model& model_;
  Chat& chat_;
  bool reread_said_ = false;
  int code_ = 0;  // of the first line that failed
};

void Talk::note(const std::string& text, Json event) {
  if (!json_) return say(text);
  std::puts(event.dump().c_str());
  std::fflush(stdout);
}

int Talk::run() {
  if (terminal_ && !json_) say("/help lists the commands; Ctrl+C stops an answer");
  for (std::string text;;) {
    if (terminal_ && !json_) std::fputs("> ", stderr);
    if (!std::getline(std::cin, text)) break;
    if (text.ends_with('\r')) text.pop_back();
    try {
      if (!line(text)) break;
    } catch (const Error& e) {
      if (code_ == 0) code_ = static_cast<int>(e.kind());
      note(format("error: {}", e.what()), Json::object({{"event", "error"}, {"text", e.what()}}));
    }
  }
  return terminal_ ? 0 : code_;
}

bool Talk::line(const std::string& text) {
  if (text.empty()) return true;
  if (!text.starts_with('/') || text.starts_with("//")) {
    turn(text.starts_with("//") ? text.substr(1) : text);
    return true;
  }
  const size_t space = std::min(text.find(' '), text.size());
  const std::string name = text.substr(1, space - 1);
  if (name == "exit" || name == "quit") return false;
  command(name, space < text.size() ? text.substr(space + 1) : "");
  return true;
}

void Talk::turn(const std::string& text) {
  TextStream clean;  // what is no UTF-8 becomes U+FFFD
  std::string message = clean.push(text);
  message += clean.finish();
  watch_interrupt();
  try {
    const ChatAnswer answer = chat_.say(message, [&](std::string_view piece) {
      if (!json_) {
        std::fwrite(piece.data(), 1, piece.size(), stdout);
        std::fflush(stdout);
      }
      return !interrupted();
    });
    unwatch_interrupt();
    report(answer);
    warn_beyond_trained(model_, std::ssize(chat_.sequence().tokens));
  } catch (...) {
    unwatch_interrupt();
    throw;
  }
}

void Talk::report(const ChatAnswer& a) {
  const GenerateResult& r = a.result;
  const double prefill = rate(r.prompt_tokens, r.prefill_seconds);
  const double decode = rate(std::ssize(r.tokens), r.decode_seconds);
  if (json_) {
    note("", Json::object({{"event", "answer"},
                           {"text", r.text},
                           {"finish", r.finish},
                           {"prompt_tokens", r.prompt_tokens},
                           {"kept_tokens", a.kept},
                           {"reread_tokens", a.reread},
                           {"generated_tokens", std::ssize(r.tokens)},
                           {"prefill_seconds", r.prefill_seconds},
                           {"prefill_tokens_per_second", prefill},
                           {"decode_seconds", r.decode_seconds},
                           {"decode_tokens_per_second", decode},
                           {"draft_tokens", r.draft.drafted},
                           {"draft_accepted", r.draft.accepted},
                           {"draft_off", r.draft.off},
                           {"state_tokens", std::ssize(chat_.sequence().tokens)},
                           {"state_bytes", chat_.sequence().bytes()}}));
    return;
  }
  std::fputc('\n', stdout);
  std::fflush(stdout);
  say(
      format("prefill {} tokens after {} kept, {:.0f} tokens/s; decode {} tokens, {:.0f} tokens/s; "
             "{}",
             r.prompt_tokens, a.kept, prefill, std::ssize(r.tokens), decode, finish_words(r)));
  if (a.reread > 0 && !std::exchange(reread_said_, true)) {
    say(format("{} tokens were read again, because the template words earlier turns in another way",
               a.reread));
  }
  if (!r.draft.off.empty()) say("drafting was slower and is off: " + r.draft.off);
}

void Talk::load(const std::string& path) {
  SequenceState sequence = chat_.fresh(), earlier = chat_.fresh();
  std::string notes;
  load_sequence(ctx_, path, model_, sequence, notes, earlier);
  const int64_t tokens = std::ssize(sequence.tokens);
  chat_.resume(std::move(sequence), notes, std::move(earlier));
  note(format("{}: {} tokens reused, {} messages", path, tokens, chat_.messages().size()),
       Json::object({{"event", "loaded"},
                     {"path", path},
                     {"reused_tokens", tokens},
                     {"messages", chat_.messages().size()}}));
}

void Talk::command(const std::string& name, const std::string& argument) {
  const auto done = [&](const std::string& text) {
    note(text, Json::object({{"event", name},
                             {"text", text},
                             {"messages", chat_.messages().size()},
                             {"state_tokens", std::ssize(chat_.sequence().tokens)}}));
  };
  if ((name == "save" || name == "load") && argument.empty()) {
    throw Error(ErrorKind::kUsage, format("/{} needs a file", name));
  }
  if (name == "save") {
    require_output_file("/save", argument);
    save_sequence(argument, model_, chat_.sequence(), chat_.notes(), chat_.earlier());
    done(format("{}: {} tokens saved", argument, std::ssize(chat_.sequence().tokens)));
  } else if (name == "load") {
    load(argument);
  } else if (name == "fork") {
    chat_.fork();
    done("kept a copy of the chat; /back returns here");
  } else if (name == "back") {
    done(chat_.back() ? "back at the last fork" : "there is no fork");
  } else if (name == "undo") {
    done(chat_.undo() ? "the last turn is undone" : "there is no turn to undo");
  } else if (name == "help") {
    done(
        "/save FILE  /load FILE  /fork  /back (to the last fork)  /undo (the last turn)  /exit; "
        "a message that begins with a slash: //...");
  } else {
    throw Error(ErrorKind::kUsage,
                format("unknown command /{}; /help lists them", printable(name)));
  }
}

int run(Flags& f) {
  if (f.greedy) f.config.generate.sampling.temperature = 0;
  check_sampling(f.config.generate.sampling);
  if (!f.tools_file.empty()) f.config.tools = Json::parse(read_file(f.tools_file, kMostText));
  const Context ctx = f.common.context();
  const LoadedModel loaded =
      load_any_model(ctx, f.model, f.weights.options(f.common, [&](const LoadedModel&) {
        return Workload{kPrefillChunk, 1, {parse_kv_type(f.kv)}};  // more comes turn by turn
      }));
  const Tokenizer& tokenizer = require_tokenizer(loaded, f.model);
  apply_defaults(loaded.generation, *f.app, f.config.generate.sampling);
  const Wording w = wording(f, tokenizer);
  add_ends(loaded, tokenizer, w.own, f.config.generate);
  f.config.system = f.system;
  f.config.state = {parse_kv_type(f.kv)};
  f.config.variables = w.tokens;
  for (const std::string& v : f.variables) f.config.variables.push_back(variable(v));
  const Draft draft = make_draft(ctx, f.draft, f.draft_ngram, *loaded.model, f.weights.options());
  f.config.generate.drafter = draft.drafter.get();
  Chat chat(ctx, *loaded.model, tokenizer, w.text, f.config);
  Talk talk(f, ctx, *loaded.model, chat);
  if (!f.load.empty()) talk.load(f.load);
  return talk.run();
}

}  // namespace

std::function<int()> setup_chat(CLI::App& app) {
  auto f = std::make_shared<Flags>();
  SamplingConfig& s = f->config.generate.sampling;
  f->app = &app;
  f->config.generate.max_tokens = 4096;
  app.add_option("-m,--model", f->model, "Hugging Face folder, .gguf file, run or checkpoint")
      ->required();
  app.add_option("--system", f->system, "The system message");
  app.add_option("--load", f->load, "Go on with a chat saved by /save");
  app.add_option("--template", f->template_file, "A chat template in Jinja instead of the model's");
  app.add_option("--tools", f->tools_file, "A JSON list of tools for the template");
  app.add_option("--var", f->variables,
                 "A variable of the template, as enable_thinking=false (may be repeated)")
      ->allow_extra_args(false);
  app.add_option("-n,--max-tokens", f->config.generate.max_tokens,
                 "Tokens of an answer; fewer where the model's learned positions end")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 40));
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
  app.add_option("-s,--seed", s.seed, "Seed of the sampler")->capture_default_str();
  app.add_option("--stop", f->config.generate.stops, "An answer ends before this text")
      ->allow_extra_args(false);
  app.add_option(
      "--draft", f->draft,
      "A smaller model with the same vocabulary that guesses ahead; answers stay the same");
  app.add_option("--draft-ngram", f->draft_ngram,
                 "Guess what followed the last N tokens before; 0 is off")
      ->capture_default_str()
      ->check(CLI::Range(int64_t{0}, int64_t{64}));
  f->weights.add(app);
  app.add_option("--kv", f->kv, "Type of kept keys and values: f32, bf16 or q8")
      ->capture_default_str();
  f->common.add(app);
  app.footer(
      "One line is one turn; from a pipe too. Commands: /save FILE, /load FILE, /fork, /back,\n"
      "/undo, /help, /exit. Ctrl+C stops the answer and keeps the chat.\n"
      "Sampling flags that are not given are those of the model's generation_config.json, if it "
      "has one.\n"
      "Example: braid chat -m Qwen3-0.6B --system \"Be brief.\" --var enable_thinking=false");
  return [f] { return run(*f); };
}

}  // namespace braid
