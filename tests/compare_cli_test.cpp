// braid compare as a person meets it: results, killed and resumed, clear refusals.

#include "braid/base/json.h"
#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

Args compare(const Folder& folder, const std::string& out) {
  if (!path_exists(folder / "text.txt")) write_file(folder / "text.txt", some_text(20000));
  return {"compare",
          "kda, swiglu",
          "gqa, mlp",
          "--width",
          "32",
          "--heads",
          "2",
          "--match",
          "none",
          "--data",
          folder / "text.txt",
          "--steps",
          "24",
          "--batch",
          "2",
          "--seq-len",
          "64",
          "--evals",
          "4",
          "--turn",
          "2",
          "--save-every",
          "1",
          "--contexts",
          "64",
          "--cost-time",
          "1s",
          "--out",
          out};
}

// compare.json without what is a time.
std::string learned(const std::string& out) {
  std::string text;
  const Json json = Json::parse(read_file(join_path(out, "compare.json")));
  for (const Json& s : json.at("stacks").elements()) {
    for (const char* key : {"label", "stack", "parameters", "bpb"}) text += s.at(key).dump();
    for (const Json& r : s.at("runs").elements()) {
      text += r.at("seed").dump() + r.at("bpb").dump() + r.at("tokens").dump();
      for (const Json& p : r.at("curve").elements())
        text += p.at("step").dump() + p.at("bpb").dump();
    }
  }
  return text;
}

}  // namespace

TEST_CASE("two stacks: a table, JSON lines and a page; killed and resumed, the same bits") {
  const Folder folder;
  const Outcome whole = braid(compare(folder, folder / "whole") + Args{"--json"});
  REQUIRE_MESSAGE(whole.code == 0, whole.all());
  int evaluations = 0, stacks = 0;
  for (const std::string& line : lines(whole.out)) {
    const std::string event = Json::parse(line).at("event").as_string();
    evaluations += event == "evaluation";
    stacks += event == "stack";
  }
  CHECK(evaluations == 2 * 3 * 4);
  CHECK(stacks == 2);
  CHECK(whole.err.find("% done  ETA ") != std::string::npos);
  const Json b = Json::parse(read_file(folder / "whole/compare.json")).at("stacks").elements()[1];
  CHECK(b.at("bpb").at("half_width_95").as_real() > 0);
  CHECK(b.at("decode").elements()[0].at("tpot_ms").as_real() > 0);

  // A name that a shell takes apart is quoted where it is to be typed again.
  const std::string cut = folder / "cut in two";
  int stops = 0;
  for (const int signal : {SIGKILL, SIGINT}) {
    Process process(compare(folder, cut));
    const std::string last = cut + "/runs/B-seed2/log.jsonl";
    const auto begun = [&] {
      return file_size(last).value_or(0) > 1000u * (signal == SIGINT ? 3 : 1);
    };
    while (process.running() && !begun()) ::usleep(200);
    process.send(signal);
    const Outcome o = process.wait();
    stops += o.signal == SIGKILL || o.code == 130;
    if (o.code == 130)
      CHECK(o.err.find("braid compare --out '" + cut + "' goes on") != std::string::npos);
  }
  CHECK(stops > 0);
  const Outcome resumed = braid({"compare", "--out", cut});
  REQUIRE_MESSAGE(resumed.code == 0, resumed.all());
  CHECK(resumed.err.find("resumed: ") != std::string::npos);
  CHECK(resumed.out.find("minus A, paired") != std::string::npos);
  CHECK(learned(cut) == learned(folder / "whole"));

  Args other = compare(folder, cut);
  other.insert(other.end(), {"--lr", "0.5"});
  const Outcome refused = braid(other);
  CHECK(refused.code == 2);
  CHECK(refused.err.find("lr is 0.002 there and 0.5 here") != std::string::npos);
}

TEST_CASE("a run among others ends as the same one alone, trained by braid train") {
  const Folder folder;
  const Args together = compare(folder, folder / "out");
  REQUIRE(braid(together).code == 0);
  const Json stacks = Json::parse(read_file(folder / "out/compare.json")).at("stacks");
  const Json& run = stacks.elements()[1].at("runs").elements()[2];  // of "gqa, mlp" with seed 2
  const Outcome alone = braid({"train",   "--stack", "gqa, mlp", "--width",           "32",
                               "--heads", "2",       "--data",   folder / "text.txt", "--steps",
                               "24",      "--batch", "2",        "--seq-len",         "64",
                               "--seed",  "2",       "--out",    folder / "alone",    "--json"});
  REQUIRE_MESSAGE(alone.code == 0, alone.all());
  const Json done = Json::parse(lines(alone.out).back());
  CHECK(done.at("event").as_string() == "done");
  CHECK(done.at("validation_bpb").as_real() == run.at("bpb").as_real());
  CHECK(done.at("tokens").as_int() == run.at("tokens").as_int());
}

TEST_CASE("stacks on a tokenizer's tokens: bits per byte of text, as braid train has them") {
  const Folder folder;
  Args args = compare(folder, folder / "out");
  REQUIRE(braid({"train-tokenizer", "--vocab", "300", folder / "text.txt", "--out", folder / "t"})
              .code == 0);
  const Args tokens = {"--tokenizer", folder / "t", "--seeds", "1"};
  const Outcome o = braid(args + tokens);
  REQUIRE_MESSAGE(o.code == 0, o.all());
  const Json result = Json::parse(read_file(folder / "out/compare.json"));
  const Json& run = result.at("stacks").elements()[1].at("runs").elements()[0];
  CHECK(run.at("held_out_tokens").as_int() < run.at("held_out_bytes").as_int());
  const Outcome alone = braid(Args{"train",
                                   "--stack",
                                   "gqa, mlp",
                                   "--width",
                                   "32",
                                   "--heads",
                                   "2",
                                   "--data",
                                   folder / "text.txt",
                                   "--steps",
                                   "24",
                                   "--batch",
                                   "2",
                                   "--seq-len",
                                   "64",
                                   "--out",
                                   folder / "alone",
                                   "--json",
                                   "--tokenizer",
                                   folder / "t"});
  REQUIRE_MESSAGE(alone.code == 0, alone.all());
  CHECK(Json::parse(lines(alone.out).back()).at("validation_bpb").as_real() ==
        run.at("bpb").as_real());
  const Outcome bytes = braid(args + tokens + Args{"--vocab", "100"});
  CHECK(bytes.code == 2);
  CHECK(bytes.err.find("stack A: the tokenizer has 300 tokens") != std::string::npos);
}

TEST_CASE("--mem is enforced before anything is written, and what it allows suffices") {
  const Folder folder;
  Args args = compare(folder, folder / "out") + Args{"--mem", "3M"};
  Outcome o = braid(args);
  INFO(o.all());
  CHECK(o.code == 4);
  CHECK_FALSE(path_exists(folder / "out"));
  const std::string needs = " needs ";
  const size_t at = o.err.find(needs);
  REQUIRE(at != std::string::npos);
  std::string shown = o.err.substr(at + needs.size());  // "3.1 MiB (..."
  shown.resize(shown.find(" ("));
  std::erase(shown, ' ');
  args.back() = shown;
  o = braid(args);
  INFO(o.all());
  CHECK(o.code == 0);
}

TEST_CASE("damaged files of a comparison are named") {
  const Folder folder;
  const Args args = compare(folder, folder / "out");
  REQUIRE(braid(args).code == 0);
  for (const char* file : {"runs/B-seed1/final.json", "comparison.json"}) {
    const std::string path = join_path(folder / "out", file);
    write_file(path, read_file(path).substr(0, 9));
    const Outcome o = braid(args);
    INFO(o.all());
    CHECK(o.code == 3);
    CHECK(o.err.find(file) != std::string::npos);
  }
}

TEST_CASE("usage errors name the flag or the stack") {
  const Folder folder;
  write_file(folder / "text.txt", some_text(20000));
  const std::string data = folder / "text.txt", out = folder / "out";
  const std::pair<Args, const char*> cases[] = {
      {{"gqa, swiglo", "mlp", "--data", data, "--steps", "2"}, "stack A"},
      {{"--data", data, "--steps", "2"}, "no stacks given"},
      {{"gqa", "--data", data, "--steps", "2"}, "one stack alone, gqa"},
      {{"gqa, mlp", "--data", data, "--steps", "2"}, "one stack alone, 'gqa, mlp', is nothing"},
      {{"gqa", "mlp", "--steps", "2"}, "--data"},
      {{"gqa", "mlp", "--data", data}, "--steps"},
      {{"gqa", "mlp", "--data", data, "--time", "2s"}, "--match time"},
      {{"gqa", "mlp", "--data", data, "--match", "time", "--steps", "2"}, "--time"},
      {{"gqa", "mlp", "--data", data, "--match", "size", "--steps", "2"},
       "params, flops, time or none"},
      {{"gqa", "mlp", "--data", data, "--seeds", "0", "--steps", "2"}, "--seeds"}};
  for (const auto& [args, part] : cases) {
    const Outcome o = braid(Args{"compare"} + args + Args{"--out", out});
    INFO(o.all());
    CHECK(o.code == 2);
    CHECK(o.err.find(part) != std::string::npos);
    CHECK_FALSE(path_exists(out));
  }
}

}  // namespace braid::e2e
