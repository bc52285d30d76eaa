#include <algorithm>
#include <cctype>
#include <cstdio>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/suggest.h"
#include "braid/cli/command.h"

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

// Every flag is also an environment variable: --save-every is BRAID_SAVE_EVERY.
void name_environment(CLI::App& app) {
  for (CLI::Option* o : app.get_options()) {
    if (o->get_lnames().empty() || o->get_lnames()[0] == "help") continue;
    std::string env = "BRAID_";
    for (const char c : o->get_lnames()[0]) {
      env += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    o->envname(env);
  }
}

// CLI11 names what it did not understand; this adds the nearest thing that exists.
std::string usage_hint(const CLI::App& app, int argc, char** argv) {
  std::vector<std::string> known;
  const CLI::App* command = &app;
  for (const CLI::App* sub : app.get_subcommands()) command = sub;
  for (const CLI::Option* o : command->get_options()) {
    for (const std::string& l : o->get_lnames()) known.push_back("--" + l);
  }
  if (command == &app) {
    for (const Command& c : kCommands) known.push_back(c.name);
  }
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    word = word.substr(0, word.find('='));
    if (word.empty() || (command != &app && word[0] != '-')) continue;
    if (std::find(known.begin(), known.end(), word) != known.end()) continue;
    if (word[0] == '-' && (word.size() < 3 || word[1] != '-')) continue;
    const std::string_view near =
        nearest_name(word, std::vector<std::string_view>(known.begin(), known.end()));
    if (!near.empty()) return format(" (did you mean {}?)", near);
  }
  return format(" (see braid {}--help)", command == &app ? "" : command->get_name() + " ");
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
    CLI::App* sub = app.add_subcommand(c.name, c.summary);
    const auto body = std::make_shared<std::function<int()>>(c.setup(*sub));
    name_environment(*sub);
    sub->callback([&chosen, body] { chosen = *body; });
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& e) {
    return app.exit(e);
  } catch (const CLI::ParseError& e) {
    std::fprintf(stderr, "braid: %s%s\n", e.what(), usage_hint(app, argc, argv).c_str());
    return static_cast<int>(ErrorKind::kUsage);
  }
  return chosen();
}

}  // namespace
}  // namespace braid

int main(int argc, char** argv) {
  try {
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
