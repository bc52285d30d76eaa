// Templates of the shapes that models use, over conversations with tools, thinking and errors,
// against Hugging Face's own Jinja and Python's (tests/golden/chat_templates/README.md).

#include <doctest/doctest.h>

#include <cstdlib>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/text/jinja/chat_template.h"

namespace braid {
namespace {

// In the repository, wherever BRAID_GOLDEN points for the checkpoints.
std::string folder() {
  const char* path = std::getenv("BRAID_DEFAULT_GOLDEN");
  return join_path(path != nullptr ? path : "tests/golden", "chat_templates");
}

Json read(const std::string& name) { return Json::parse(read_file(join_path(folder(), name))); }

std::tm noon() {
  std::tm t{};
  t.tm_year = 126;
  t.tm_mon = 6;
  t.tm_mday = 4;
  t.tm_hour = 12;
  t.tm_wday = 6;
  t.tm_yday = 184;
  return t;
}

// The text, or nothing for an error; `expected` is {"text": ...} or {"error": true}.
void check(std::string_view source, const Json& messages, const Json& tools,
           const ChatOptions& options, const Json& expected) {
  std::optional<std::string> text;
  std::string error;
  try {
    text = ChatTemplate::parse(source).render(messages, tools, options);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kBadInput);
    error = e.what();
  }
  const Json* wanted = expected.find("text");
  CHECK_MESSAGE(text.has_value() == (wanted != nullptr), error);
  if (text && wanted != nullptr) CHECK(*text == wanted->as_string());
}

}  // namespace

TEST_CASE("templates of real shapes render as elsewhere") {
  const Json expected = read("expected.json"), conversations = read("conversations.json");
  const Json tools = read("tools.json");
  CHECK(expected.members().size() >= 20);
  for (const auto& [file, results] : expected.members()) {
    const std::string source = read_file(join_path(join_path(folder(), "templates"), file));
    for (const auto& [name, c] : conversations.members()) {
      CAPTURE(file);
      CAPTURE(name);
      ChatOptions options;
      options.clock = &noon;
      options.add_generation_prompt = c.find("add_generation_prompt") != nullptr;
      if (const Json* documents = c.find("documents")) options.documents = *documents;
      options.extras = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
      if (const Json* extras = c.find("extras")) {
        for (const auto& [key, value] : extras->members()) options.extras.emplace_back(key, value);
      }
      check(source, c.at("messages"), c.find("tools") ? tools : Json(), options, results.at(name));
    }
  }
}

TEST_CASE("short templates mean what Python's Jinja says") {
  const Json golden = read("snippets.json");
  CHECK(golden.at("snippets").size() >= 150);
  ChatOptions options;
  options.clock = &noon;
  options.add_generation_prompt = false;
  for (const Json& s : golden.at("snippets").elements()) {
    CAPTURE(s.at("template").as_string());
    check(s.at("template").as_string(), golden.at("messages"), {}, options, s);
  }
}

}  // namespace braid
