// One stack with every mixer and channel that there is, and meta tokens: it trains, saves, resumes
// bit for bit after kill -9, and decodes; a saved sequence goes on as if it had never stopped.

#include "braid/layers/channel.h"
#include "braid/layers/mixer.h"
#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

// Layers that read others need one to read; the rest stands in the stack by its name alone.
std::string every_layer() {
  std::string stack;
  const auto add = [&](const std::string& layer) { stack += (stack.empty() ? "" : ", ") + layer; };
  add("mamba{as=memory}, gqa{as=kv,window=9}, gqa{of=kv} | kda, gqa + mamba2");
  for (const LayerType& t : mixer_types()) {
    const std::string name = t.name;
    add(name == "gmu" ? "gmu{of=memory}" : name);
  }
  for (const LayerType& t : channel_types()) add(t.name);
  return stack;
}

Args train(const std::string& data, const std::string& out, int threads) {
  return {"train",
          "--stack",
          every_layer(),
          "--width",
          "64",
          "--head-dim",
          "16",
          "--meta-tokens",
          "3",
          "--data",
          data,
          "--steps",
          "4",
          "--batch",
          "2",
          "--seq-len",
          "96",
          "--save-every",
          "2",
          "--eval-tokens",
          "64",
          "--out",
          out,
          "-t",
          format("{}", threads)};
}

std::string written(const std::string& run, const Args& more) {
  Args args = {"generate", "-m", run, "--greedy", "--ignore-eos"};
  args.insert(args.end(), more.begin(), more.end());
  const Outcome o = braid(args);
  INFO(o.all());
  REQUIRE(o.code == 0);
  REQUIRE(o.out.ends_with("\n"));  // the program's own
  return o.out.substr(0, o.out.size() - 1);
}

}  // namespace

TEST_CASE("a stack of every layer trains, resumes bit for bit and decodes") {
  constexpr int kAttempts = 4;  // a run may win the race against its signal
  const Folder folder;
  const std::string data = folder / "text.txt", whole = folder / "whole";
  write_file(data, some_text(20000));
  const Outcome o = braid(train(data, whole, 1));
  INFO(o.all());
  REQUIRE(o.code == 0);
  bool killed = false;
  for (int attempt = 0; attempt < kAttempts && !killed; ++attempt) {
    const std::string run = folder / format("run{}", attempt);
    Process process(train(data, run, 1));
    while (process.running() && !path_exists(join_path(run, "checkpoints/step-2"))) ::usleep(500);
    process.send(SIGKILL);
    killed = process.wait().signal == SIGKILL && !path_exists(join_path(run, "checkpoints/step-4"));
    if (!killed) continue;
    const Outcome resumed = braid(train(data, run, 2));
    INFO(resumed.all());
    REQUIRE(resumed.code == 0);
    CHECK(resumed.err.find("resumed from step 2") != std::string::npos);
    for (const char* file : {"weights.safetensors", "train/optimizer.safetensors", "model.toml"}) {
      INFO(file);
      const std::string end = join_path("checkpoints/step-4", file);
      CHECK(read_file(join_path(run, end)) == read_file(join_path(whole, end)));
    }
  }
  CHECK_MESSAGE(killed, "every run ended before its signal came");

  const std::string state = folder / "state.safetensors";
  const std::string at_once = written(whole, {"-p", "The", "-n", "24"});
  const std::string begun = written(whole, {"-p", "The", "-n", "10", "--save-state", state});
  const std::string rest = written(whole, {"-n", "14", "--load-state", state});
  CHECK(begun + rest == at_once);
}

}  // namespace braid::e2e
