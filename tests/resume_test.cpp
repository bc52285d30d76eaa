// A run that was killed, or interrupted, and resumed equals the one that never stopped, bit for
// bit, for any number of threads.

#include <algorithm>

#include "braid/base/json.h"
#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

// Documents of 1 to some 500 bytes: rows of a batch are packed with several of them.
std::string documents() {
  std::string text;
  for (int i = 0; i < 120; ++i) {
    const std::string document = some_text(600).substr(0, static_cast<size_t>(1 + i * 37 % 500));
    text += Json::object({{"text", document}}).dump() + "\n";
  }
  return text;
}

const Folder& shared_data() {
  static const Folder folder;
  if (!path_exists(folder / "documents.jsonl")) {
    write_file(folder / "documents.jsonl", documents());
  }
  return folder;
}

// Everything that a checkpoint must carry: recurrent and attention mixers, a router with balanced
// experts (a buffer outside of the optimizer), Muon and AdamW, accumulation, a decaying schedule.
Args train(const std::string& out, int threads) {
  return {"train",
          "--stack",
          "kda, swiglu, gqa, moe{experts=4, top_k=2}",
          "--residual",
          "attnres",
          "--width",
          "64",
          "--data",
          shared_data() / "documents.jsonl",
          "--steps",
          "20",
          "--batch",
          "2",
          "--seq-len",
          "128",
          "--accumulate",
          "2",
          "--warmup",
          "4",
          "--save-every",
          "10",
          "--eval-tokens",
          "64",
          "--sample-prompt",
          "The",
          "--out",
          out,
          "-t",
          format("{}", threads)};
}

std::vector<std::pair<int64_t, double>> losses(const std::string& run) {
  std::vector<std::pair<int64_t, double>> all;
  for (const std::string& line : lines(read_file(join_path(run, "log.jsonl")))) {
    const Json entry = Json::parse(line);
    if (entry.at("event").as_string() != "step") continue;
    all.emplace_back(entry.at("step").as_int(), entry.at("loss").as_real());
  }
  return all;
}

void check_equal_runs(const std::string& got, const std::string& want) {
  for (const char* file : {"weights.safetensors", "train/optimizer.safetensors", "model.toml"}) {
    INFO(file);
    const std::string end = join_path("checkpoints/step-20", file);
    CHECK(read_file(join_path(got, end)) == read_file(join_path(want, end)));
  }
  const auto steps = losses(got);
  REQUIRE(steps.size() == 20);
  CHECK(steps == losses(want));
}

// The run that never stops.
const std::string& reference() {
  static const Folder folder;
  static const std::string run = folder / "run";
  if (!path_exists(run)) {
    const Outcome o = braid(train(run, 1));
    INFO(o.all());
    REQUIRE(o.code == 0);
  }
  return run;
}

// Sends `signal` once `ready()`; false when the run was over before.
template <typename Ready>
bool stop_in_the_middle(Process& process, int signal, Ready ready) {
  while (process.running()) {
    if (ready()) {
      process.send(signal);
      return true;
    }
    ::usleep(200);
  }
  return false;
}

int64_t logged_steps(const std::string& run) {
  const std::string path = join_path(run, "log.jsonl");
  if (!path_exists(path)) return 0;
  const std::string text = read_file(path);
  int64_t n = 0;
  for (size_t at = 0; (at = text.find("\"event\":\"step\"", at)) != std::string::npos; ++at) ++n;
  return n;
}

constexpr int kAttempts = 5;  // a run may win the race against its signal

}  // namespace

TEST_CASE("two threads give the same weights and losses as one") {
  const Folder folder;
  const Outcome o = braid(train(folder / "run", 2));
  INFO(o.all());
  REQUIRE(o.code == 0);
  check_equal_runs(folder / "run", reference());
}

TEST_CASE("10 steps, kill -9, 10 steps equal 20 steps") {
  bool killed = false;
  for (int attempt = 0; attempt < kAttempts && !killed; ++attempt) {
    const Folder folder;
    const std::string run = folder / "run";
    Process process(train(run, 1));
    stop_in_the_middle(process, SIGKILL,
                       [&] { return path_exists(join_path(run, "checkpoints/step-10")); });
    const Outcome o = process.wait();
    killed = o.signal == SIGKILL && !path_exists(join_path(run, "checkpoints/step-20"));
    if (!killed) continue;
    const Outcome resumed = braid(train(run, 2));
    INFO(resumed.all());
    REQUIRE(resumed.code == 0);
    CHECK(resumed.err.find("resumed from step 10") != std::string::npos);
    check_equal_runs(run, reference());
  }
  CHECK_MESSAGE(killed, "every run ended before its signal came");
}

TEST_CASE("kill -9 before the first checkpoint leaves a folder that starts again") {
  const Folder folder;
  const std::string run = folder / "run";
  Process process(train(run, 1));
  stop_in_the_middle(process, SIGKILL, [&] { return logged_steps(run) >= 2; });
  process.wait();
  const Outcome again = braid(train(run, 1));
  INFO(again.all());
  REQUIRE(again.code == 0);
  check_equal_runs(run, reference());
}

TEST_CASE("of two runs begun in one folder at once one is refused and the other whole") {
  int refused = 0;
  for (int attempt = 0; attempt < kAttempts && refused == 0; ++attempt) {
    const Folder folder;
    const std::string run = folder / "run";
    Process a(train(run, 1)), b(train(run, 1));
    const Outcome both[] = {a.wait(), b.wait()};
    int trained = 0;
    for (const Outcome& o : both) {
      INFO(o.all());
      trained += o.code == 0;
      if (o.code == 0) continue;  // the second too, where it came after the first
      CHECK(o.code == 2);
      CHECK(o.err.find("another braid works in " + run) != std::string::npos);
      ++refused;
    }
    CHECK(trained >= 1);
    check_equal_runs(run, reference());
  }
  CHECK_MESSAGE(refused > 0, "every run ended before the other began");
}

TEST_CASE("Ctrl+C saves and exits 130; the folder alone resumes the run") {
  for (const int signal : {SIGINT, SIGTERM}) {
    bool interrupted = false;
    for (int attempt = 0; attempt < kAttempts && !interrupted; ++attempt) {
      const Folder folder;
      const std::string run = folder / "run";
      Process process(train(run, 2));
      stop_in_the_middle(process, signal, [&] { return logged_steps(run) >= 4; });
      const Outcome o = process.wait();
      INFO(o.all());
      interrupted = o.code == 130;
      if (!interrupted) {
        REQUIRE(o.code == 0);
        continue;
      }
      CHECK(o.err.find("the same command resumes") != std::string::npos);
      const int64_t steps = logged_steps(run);
      CHECK(path_exists(join_path(run, format("checkpoints/step-{}/manifest.json", steps))));
      const Outcome resumed = braid({"train", "--out", run});
      INFO(resumed.all());
      REQUIRE(resumed.code == 0);
      CHECK(resumed.err.find(format("resumed from step {}", steps)) != std::string::npos);
      check_equal_runs(run, reference());
    }
    CHECK_MESSAGE(interrupted, "every run ended before its signal came");
  }
}

TEST_CASE("a run that trains a part of the model goes on with that part") {
  const Folder folder;
  const std::string whole = folder / "whole", run = folder / "run";
  const auto part = [](const std::string& out, const char* steps) {
    Args args = train(out, 1);
    *(std::find(args.begin(), args.end(), "--steps") + 1) = steps;
    args.insert(args.end(), {"--schedule", "constant", "--train-only", "*.gqa.*,*.moe.*",
                             "--freeze", "*gate.weight"});
    return args;
  };
  REQUIRE(braid(part(whole, "12")).code == 0);
  REQUIRE(braid(part(run, "10")).code == 0);
  const Outcome other = braid({"train", "--out", run, "--steps", "12", "--train-only", "*.gqa.*"});
  CHECK(other.code == 2);
  CHECK(other.err.find("begun with --train-only \"*.gqa.*,*.moe.*\", but now it is \"*.gqa.*\"") !=
        std::string::npos);
  Args nothing = train(folder / "none", 1);
  nothing.insert(nothing.end(), {"--freeze", "*.indexer.*"});
  const Outcome none = braid(nothing);
  CHECK(none.code == 2);
  CHECK(none.err.find("no parameter's name fits") != std::string::npos);
  const Outcome resumed = braid({"train", "--out", run, "--steps", "12"});
  INFO(resumed.all());
  REQUIRE(resumed.code == 0);
  for (const char* file : {"weights.safetensors", "train/optimizer.safetensors"}) {
    const std::string end = join_path("checkpoints/step-12", file);
    CHECK(read_file(join_path(run, end)) == read_file(join_path(whole, end)));
  }
}

TEST_CASE(
    "a damaged newest checkpoint is passed over aloud, and the older one gives the same end") {
  const Folder folder;
  const std::string run = folder / "run";
  REQUIRE(braid(train(run, 1)).code == 0);
  const std::string weights = join_path(run, "checkpoints/step-20/weights.safetensors");
  std::string bytes = read_file(weights);
  bytes.resize(bytes.size() / 2);
  write_file(weights, bytes);
  const Outcome o = braid(train(run, 1));
  INFO(o.all());
  REQUIRE(o.code == 0);
  CHECK(o.err.find("passed over a damaged checkpoint") != std::string::npos);
  CHECK(o.err.find("resumed from step 10") != std::string::npos);
  check_equal_runs(run, reference());
}

}  // namespace braid::e2e
