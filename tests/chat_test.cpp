// `braid chat` from a pipe: one line is one turn.
#include "braid/base/json.h"
#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

struct Trained {
  Trained() {
    write_file(folder / "text.txt", some_text(6000));
    const Outcome o = braid({"train", "--stack", "gdn, swiglu, gqa, swiglu", "--width", "32",
                             "--heads", "2", "--data", folder / "text.txt", "--steps", "4",
                             "--batch", "2", "--seq-len", "64", "--out", run, "--json"});
    REQUIRE_MESSAGE(o.code == 0, o.all());
  }
  Folder folder;
  std::string run = folder / "run";
};

const Trained& trained() {
  static const Trained t;
  return t;
}

struct Talk {
  Outcome outcome;
  std::vector<Json> events;
  std::vector<Json> answers;
};

Talk chat(const std::string& input, const Args& more = {}) {
  const std::string file = trained().folder / "input.txt";
  write_file(file, input);
  Setting setting;
  setting.stdin_path = file;
  Talk talk;
  talk.outcome =
      braid(Args{"chat", "-m", trained().run, "--json", "-n", "12", "--seed", "4"} + more, setting);
  for (const std::string& line : lines(talk.outcome.out)) {
    talk.events.push_back(Json::parse(line));
    if (talk.events.back().at("event").as_string() == "answer") {
      talk.answers.push_back(talk.events.back());
    }
  }
  return talk;
}

std::string text(const Json& answer) { return answer.at("text").as_string(); }

}  // namespace

TEST_CASE("every line is a turn that reads only what is new") {
  const Talk t = chat("Hello\nAgain\n", {"--system", "Be brief."});
  REQUIRE_MESSAGE(t.outcome.code == 0, t.outcome.all());
  REQUIRE(t.answers.size() == 2);
  CHECK(t.answers[0].at("kept_tokens").as_int() == 0);
  CHECK(t.answers[0].at("generated_tokens").as_int() <= 12);
  CHECK(t.answers[1].at("kept_tokens").as_int() > 60);  // the first prompt at least
  CHECK(t.answers[1].at("prompt_tokens").as_int() < 90);
  CHECK(t.outcome.err.find("no chat template") != std::string::npos);
}

TEST_CASE("a saved chat goes on in a new process with the same answers") {
  const std::string state = trained().folder / "talk.state";
  const Talk whole = chat("Hello\n/save " + state + "\nAgain\n");
  REQUIRE_MESSAGE(whole.outcome.code == 0, whole.outcome.all());
  REQUIRE(whole.answers.size() == 2);
  const Talk resumed = chat("Again\n", {"--load", state});
  REQUIRE_MESSAGE(resumed.outcome.code == 0, resumed.outcome.all());
  REQUIRE(resumed.answers.size() == 1);
  CHECK(resumed.events[0].at("reused_tokens").as_int() ==
        whole.answers[0].at("state_tokens").as_int());
  CHECK(text(resumed.answers[0]) == text(whole.answers[1]));
  CHECK(resumed.answers[0].at("kept_tokens") == whole.answers[1].at("kept_tokens"));
  const Talk inside = chat("Other\n/load " + state + "\nAgain\n");
  REQUIRE(inside.answers.size() == 2);
  CHECK(text(inside.answers[1]) == text(whole.answers[1]));
}

TEST_CASE("undo and forks return to the same place") {
  const Talk t = chat("One\nTwo\n/undo\nTwo\n/fork\nThree\nFour\n/back\nThree\n");
  REQUIRE_MESSAGE(t.outcome.code == 0, t.outcome.all());
  REQUIRE(t.answers.size() == 6);
  CHECK(text(t.answers[1]) == text(t.answers[2]));
  CHECK(text(t.answers[3]) == text(t.answers[5]));
}

TEST_CASE("a line that fails is an error with its code, and the chat goes on") {
  const Talk t = chat("/nonsense\nHello\n/load nowhere\n/exit\nnever\n");
  CHECK(t.outcome.code == 2);
  REQUIRE(t.events.size() == 3);
  CHECK(t.events[0].at("event").as_string() == "error");
  CHECK(t.answers.size() == 1);
  CHECK(t.events[2].at("event").as_string() == "error");
}

TEST_CASE("a turn beyond --mem fails and leaves the chat as it was") {
  const std::string longer = some_text(60000);
  std::string line;
  for (const char c : longer) line += c == '\n' ? ' ' : c;
  const Talk t = chat("Hello\n" + line + "\nAgain\n", {"--mem", "16M"});
  CHECK(t.outcome.code == 4);
  REQUIRE_MESSAGE(t.answers.size() == 2, t.outcome.all());
  const Talk without = chat("Hello\nAgain\n");
  CHECK(text(t.answers[1]) == text(without.answers[1]));
}

TEST_CASE("templates: a file, a variable of it, and one that refuses") {
  const std::string file = trained().folder / "words.jinja";
  write_file(file,
             "{% for m in messages %}{% if m.content == mood %}{{ raise_exception('no ' ~ mood) }}"
             "{% endif %}<{{ m.role[0] }}>{{ m.content }}{% endfor %}<a>");
  const Talk t = chat("Hi\nsad\nHi\n", {"--template", file, "--var", "mood=sad"});
  CHECK(t.outcome.code == 3);
  CHECK(t.answers.size() == 2);
  REQUIRE(t.events.size() == 3);
  CHECK(t.events[1].at("text").as_string().find("no sad") != std::string::npos);
  CHECK(t.answers[0].at("prompt_tokens").as_int() == 8);
}

TEST_CASE("a state that is no chat says what it is, and one of another type names its file") {
  const std::string state = trained().folder / "sequence", saved = trained().folder / "saved chat";
  REQUIRE(braid({"generate", "-m", trained().run, "-p", "Hello", "-n", "4", "--save-state", state})
              .code == 0);
  const Talk t = chat("Hello\n", {"--load", state});
  CHECK(t.outcome.code == 3);
  CHECK(t.outcome.err.find("generate --load-state") != std::string::npos);
  CHECK(t.outcome.err.find(state) != std::string::npos);
  REQUIRE(chat("Hello\n/save " + saved + "\n").outcome.code == 0);
  const Talk other = chat("Hello\n", {"--load", saved, "--kv", "bf16"});
  CHECK(other.outcome.code == 3);
  CHECK(other.outcome.err.find(saved) != std::string::npos);
}

}  // namespace braid::e2e
