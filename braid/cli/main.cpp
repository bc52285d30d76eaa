#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "braid/base/environment.h"
#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/suggest.h"
#include "braid/cli/command.h"
#include "braid/cli/waiting_threads.h"

namespace braid {

#define BRAID_COMMAND(name, summary) std::function<int()> setup_##name(CLI::App& app);
#include "braid/cli/commands/list.inc"
#undef BRAID_COMMAND

namespace {

const Command kCommands[] = {
#define BRAID_COMMAND(name, summary) {#name, summary, setup_##name},
#include "braid/cli/commands/list.inc"
#undef BRAID_COMMAND
};

// train_tokenizer in the list is train-tokenizer on the command line.
std::string command_word(const Command& c) {
  std::string word = c.name;
  std::replace(word.begin(), word.end(), '_', '-');
  return word;
}

// Every flag is also an environment variable: --save-every is BRAID_SAVE_EVERY. Those of the chosen
// command alone, or another's flag would be set too and its bad value refused.
void name_environment(CLI::App& app) {
  app.preparse_callback([&app](size_t) {
    for (CLI::Option* o : app.get_options()) {
      if (o->get_lnames().empty() || o->get_lnames()[0] == "help") continue;
      std::string env = "BRAID_";
      for (const char c : o->get_lnames()[0]) {
        env += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
      }
      o->envname(env);
    }
  });
  for (CLI::App* sub : app.get_subcommands({})) name_environment(*sub);
}

// strtoull, which reads them, takes -3 for 2^64 - 3.
void refuse_negative_counts(CLI::App& command) {
  for (CLI::Option* o : command.get_options()) {
    if (!o->get_type_name().starts_with("UINT")) continue;
    o->check([](const std::string& text) {
      return text.starts_with('-') ? format("Value {} not in range 0 to {}", text, UINT64_MAX)
                                   : std::string();
    });
  }
}

// The first word that no flag (or, before a command, no command) is called.
std::string unknown_word(const std::vector<std::string>& known, bool in_command, int argc,
                         char** argv) {
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    const bool flag = word.starts_with("--") && word.size() > 2;
    if (flag) word = word.substr(0, word.find('='));
    if (!flag && (in_command || word.starts_with('-'))) continue;
    if (std::find(known.begin(), known.end(), word) == known.end()) return word;
  }
  return {};
}

bool given_in(const CLI::Option& option, int argc, char** argv) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    for (const std::string& name : option.get_lnames()) {
      if (word == "--" + name || word.starts_with("--" + name + "=")) return true;
    }
    for (const std::string& name : option.get_snames()) {
      if (word.starts_with("-" + name)) return true;
    }
  }
  return false;
}

const char* wanted_type(const CLI::Option& option) {
  if (option.get_expected_min() == 0) return "true or false";  // a flag without a value
  const std::string type = option.get_type_name();
  return type.starts_with("UINT")      ? "a whole number of 0 or more"
         : type.starts_with("INT")     ? "a whole number"
         : type.starts_with("FLOAT")   ? "a number"
         : type.starts_with("BOOLEAN") ? "true or false"
                                       : "of another form";
}

// "--width is "x"; it must be a number in the range 1 to 1048576": CLI11 names the flag only, which
// may never have been typed, and says of a word that it is not in a range.
std::string value_message(const CLI::App& command, const std::string& text, int argc, char** argv) {
  constexpr std::string_view kValue = ": Value ", kRange = " not in range ", kEqual = " = ";
  const size_t begin = text.find("--"), end = text.find_first_of(" :", begin);
  const CLI::Option* option = end == std::string::npos
                                  ? nullptr
                                  : command.get_option_no_throw(text.substr(begin, end - begin));
  if (option == nullptr) return text;
  const std::string name = option->get_name(), rest = text.substr(end);
  const std::string shown = given_in(*option, argc, argv)
                                ? name
                                : format("{}, which sets {},", option->get_envname(), name);
  const size_t range = rest.find(kRange);
  if (rest.starts_with(kValue) && range != std::string::npos) {
    return format("{} is \"{}\"; it must be a number in the range {}", shown,
                  rest.substr(kValue.size(), range - kValue.size()),
                  rest.substr(range + kRange.size()));
  }
  if (!rest.starts_with(kEqual)) return shown + rest;
  return format("{} is \"{}\"; it must be {}", shown, rest.substr(kEqual.size()),
                wanted_type(*option));
}

// What `option` takes, from the form that CLI11 keeps: "INT:INT in [0 - 64]", "TEXT:{f32,bf16}".
std::string wanted_value(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t colon = type.find(':'), range = type.find(" in ["), to = type.find(" - ");
  if (range != std::string::npos && to != std::string::npos) {
    return format(", {} in the range {} to {}", wanted_type(option),
                  type.substr(range + 5, to - range - 5),
                  type.substr(to + 3, type.size() - to - 4));
  }
  if (colon != std::string::npos && type.find('{', colon) == colon + 1)
    return format(", one of {}", type.substr(colon + 2, type.size() - colon - 3));
  return type.starts_with("TEXT") ? "" : format(", {}", wanted_type(option));
}

// "--max-tokens: 1 required INT missing" and "--model: At Most 1 required but received 2".
std::string count_message(const CLI::App& command, const std::string& text) {
  constexpr std::string_view kReceived = "but received ";
  const std::string name = text.substr(0, text.find(':'));
  const CLI::Option* option = command.get_option_no_throw(name);
  if (option == nullptr) return text;
  const size_t received = text.find(kReceived);
  if (received == std::string::npos)
    return format("{} needs a value{}", name, wanted_value(*option));
  const std::string times = text.substr(received + kReceived.size());
  return format("{} was given {}", name, times == "2" ? "twice" : format("{} times", times));
}

// The first word that is no flag's, and how a stack that the shell has split is to be written.
std::string extra_message(const std::string& text, int argc, char** argv) {
  const std::string word = text.substr(text.rfind(' ') + 1);  // CLI11 lists them backwards
  const auto of_stack = [](std::string_view w) {
    return !w.starts_with('-') && w.find_first_of(",(){}") != w.npos;
  };
  bool split = of_stack(word) || word == "x";
  for (int i = 2; i < argc; ++i) split = split || (word == argv[i] && of_stack(argv[i - 1]));
  return format("unexpected word \"{}\"{}", word,
                split ? "; a stack is one word: quote it, as in \"kda, swiglu\"" : "");
}

// One line for what CLI11 did not understand, with the nearest thing that exists.
std::string usage_message(const CLI::App& app, const CLI::ParseError& e, int argc, char** argv) {
  const CLI::App* command = &app;
  std::string words;
  while (!command->get_subcommands().empty()) {
    command = command->get_subcommands().back();
    words += command->get_name() + " ";
  }
  const bool in_command = command != &app;
  const std::string help = format("braid {}--help", words);
  std::vector<std::string> known;
  for (const CLI::Option* o : command->get_options()) {
    for (const std::string& l : o->get_lnames()) known.push_back("--" + l);
  }
  if (!in_command) {
    for (const Command& c : kCommands) known.push_back(command_word(c));
  }
  const auto kind = static_cast<CLI::ExitCodes>(e.get_exit_code());
  if (kind == CLI::ExitCodes::ExtrasError || kind == CLI::ExitCodes::RequiredError) {
    const std::string word = unknown_word(known, in_command, argc, argv);
    if (!word.empty()) {
      const std::string_view near =
          nearest_name(word, std::vector<std::string_view>(known.begin(), known.end()));
      return format("unknown {} {}{}", word.starts_with('-') ? "flag" : "command", word,
                    near.empty() ? format("; see {}", help) : format("; did you mean {}?", near));
    }
  }
  if (kind == CLI::ExitCodes::ExtrasError)
    return format("{}; see {}", extra_message(e.what(), argc, argv), help);
  if (!in_command) return format("no command given; see {}", help);
  if (kind == CLI::ExitCodes::ConversionError || kind == CLI::ExitCodes::ValidationError) {
    return format("{}; see {}", value_message(*command, e.what(), argc, argv), help);
  }
  if (kind == CLI::ExitCodes::ArgumentMismatch)
    return format("{}; see {}", count_message(*command, e.what()), help);
  return format("{}; see {}", e.what(), help);
}

// Results that did not reach their file are an error, not a success.
void flush_results() {
  errno = 0;
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return;
  throw Error(ErrorKind::kBadInput,
              format("cannot write standard output: {}",
                     errno != 0 ? std::strerror(errno) : "an earlier write failed"));
}

int run(int argc, char** argv) {
  CLI::App app(
      "braid: language models braided from attention, linear attention, experts and loops");
  app.set_version_flag("--version", "braid " BRAID_VERSION);
  app.require_subcommand(1);
  app.footer(
      "Example: braid train --stack \"2 x (3 x (kda, swiglu), gqa, swiglu)\" --data FILE --out "
      "RUN");
  std::function<int()> chosen;
  for (const Command& c : kCommands) {
    CLI::App* sub = app.add_subcommand(command_word(c), c.summary);
    const auto body = std::make_shared<std::function<int()>>(c.setup(*sub));
    name_environment(*sub);
    refuse_negative_counts(*sub);
    sub->callback([&chosen, body] { chosen = *body; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "braid: %s\n", usage_message(app, e, argc, argv).c_str());
    return static_cast<int>(ErrorKind::kUsage);
  }
  const int code = chosen();
  flush_results();
  return code;
}

}  // namespace
}  // namespace braid

int main(int argc, char** argv) {
  braid::keep_spins_short(argv);
  braid::start_signal_thread();
  try {
    braid::environment();
    return braid::run(argc, argv);
  } catch (const braid::Error& e) {
    std::fflush(stdout);
    std::fprintf(stderr, "braid: %s\n", e.what());
    return static_cast<int>(e.kind());
  } catch (const std::exception& e) {
    std::fprintf(stderr, "braid: internal error: %s\n", e.what());
    return static_cast<int>(braid::ErrorKind::kInternal);
  }
}
