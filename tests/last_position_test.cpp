// A model with learned positions, whose sequences end at the last one.
#include "braid/base/json.h"
#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

struct Trained {
  Trained() {
    write_file(folder / "text.txt", some_text(6000));
    write_file(folder / "model.toml",
               "stack = \"gqa{rope=false}, swiglu\"\nwidth = 32\nvocab = 256\npositions = 128\n");
    const Outcome o =
        braid({"train", "--model", folder / "model.toml", "--data", folder / "text.txt", "--steps",
               "3", "--batch", "2", "--seq-len", "64", "--out", run, "--json"});
    REQUIRE_MESSAGE(o.code == 0, o.all());
  }
  Folder folder;
  std::string run = folder / "run", text = folder / "text.txt";
};

const Trained& trained() {
  static const Trained t;
  return t;
}

Json result(const Args& args) {
  const Outcome o = braid(args + Args{"--json"});
  REQUIRE_MESSAGE(o.code == 0, o.all());
  return Json::parse(o.out);
}

void check_refused(const Args& args, const std::string& words) {
  const Outcome o = braid(args);
  INFO(o.all());
  CHECK(o.code == 2);
  CHECK(o.out.empty());
  CHECK(o.err.find(words) != std::string::npos);
}

std::string one_line(size_t bytes) { return std::string(bytes, 'a'); }

}  // namespace

TEST_CASE("generate ends at the last position, with and without a draft") {
  const Args ask = {"generate", "-m", trained().run, "-p", "hello", "--greedy", "-n"};
  const Json plain = result(ask + Args{"200"});
  CHECK(plain.at("finish").as_string() == "positions");
  CHECK(plain.at("generated_tokens").as_int() == 123);
  CHECK(result(ask + Args{"123"}).at("finish").as_string() == "length");
  const Json drafted = result(ask + Args{"200", "--draft", trained().run});
  CHECK(drafted.at("text") == plain.at("text"));
  const Outcome shown = braid(ask + Args{"200"});
  CHECK(shown.err.find("; the model's last position]") != std::string::npos);
  CHECK(shown.err.find("may be worse") == std::string::npos);
}

TEST_CASE("a prompt that fills the sequence is read, a longer one refused before any token") {
  const Args ask = {"generate", "-m", trained().run, "-n", "1", "-p"};
  CHECK(result(ask + Args{one_line(128)}).at("generated_tokens").as_int() == 0);
  check_refused(ask + Args{one_line(129)}, "129 tokens; a sequence of this model has at most 128");
}

TEST_CASE("a chat ends an answer at the last position and refuses what does not fit") {
  const std::string input = trained().folder / "input.txt";
  write_file(input, "hello\nagain\n/undo\nhello\n");
  Setting setting;
  setting.stdin_path = input;
  const Outcome o = braid({"chat", "-m", trained().run, "--json", "-n", "200"}, setting);
  INFO(o.all());
  CHECK(o.code == 2);
  const std::vector<std::string> events = lines(o.out);
  REQUIRE(events.size() == 4);
  CHECK(Json::parse(events[0]).at("finish").as_string() == "positions");
  CHECK(Json::parse(events[0]).at("state_tokens").as_int() == 128);
  CHECK(Json::parse(events[1]).at("text").as_string().find("of which 0 are left") !=
        std::string::npos);
  CHECK(Json::parse(events[3]).at("finish").as_string() == "positions");
}

TEST_CASE("lengths that nobody typed are cut to the positions") {
  const std::string& run = trained().run;
  CHECK(result({"speed", "-m", run}).at("context").as_int() == 96);
  CHECK(result({"speed", "-m", run, "--prompt", "100"}).at("decode_tokens").as_int() == 28);
  CHECK(result({"speed", "-m", run, "--context", "120", "--decode", "4"}).at("prompt").as_int() ==
        120);
  const Json against =
      result({"eval", "-m", run, "--data", trained().text, "--against", run}).at("contexts");
  REQUIRE(against.elements().size() == 1);
  CHECK(against.elements()[0].at("context").as_int() == 128);
  const Json contexts = result({"plan", run}).at("contexts");
  REQUIRE(contexts.elements().size() == 1);
  CHECK(contexts.elements()[0].at("tokens").as_int() == 128);
  CHECK(braid({"plan", run, "--contexts", "128"}).code == 0);
  const std::string published = trained().folder / "published";  // knows no length of windows
  REQUIRE(braid({"convert", "-m", run, "-o", published, "--to", "braid"}).code == 0);
  CHECK(result({"eval", "-m", published, "--data", trained().text}).at("seq_len").as_int() == 128);
}

TEST_CASE("lengths that were typed must fit the positions") {
  const std::string &run = trained().run, &text = trained().text;
  const auto most = [](const char* flag, int64_t typed, int64_t n) {
    return format("{} is {}; a sequence of this model has at most 128 tokens, so {} is the most",
                  flag, typed, n);
  };
  check_refused({"eval", "-m", run, "--data", text, "--seq-len", "129"},
                most("--seq-len", 129, 128));
  check_refused({"eval", "-m", run, "--data", text, "--against", run, "--contexts", "64,129"},
                most("--contexts", 129, 128));
  check_refused({"speed", "-m", run, "--decode", "30", "--prompt", "100"},
                most("--prompt", 100, 98));
  check_refused({"plan", run, "--contexts", "131072"}, most("--contexts", 131072, 128));
  check_refused({"plan", run, "--prefill", "2048"}, most("--prefill", 2048, 128));
  check_refused({"plan", run, "--seq-len", "2048"}, most("--seq-len", 2048, 128));
}

}  // namespace braid::e2e
