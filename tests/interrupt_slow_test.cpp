// A handler on a computing thread once overwrote what just-in-time kernels keep below the stack
// pointer: one interrupt in ten ended in a crash (cli/command.h, start_signal_thread).
#include "tests/braid_process.h"

namespace braid::e2e {

TEST_CASE("interrupts at any moment after the first step save and exit 130") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += format("line {} of a text\n", i);
  write_file(folder / "text.txt", text);
  for (int i = 0; i < 40; ++i) {
    Process p({"train", "--stack", "kda, swiglu, gqa, swiglu", "--width", "64", "--data",
               folder / "text.txt", "--time", "60s", "--batch", "2", "--seq-len", "64", "--out",
               folder / format("run{}", i)});
    const std::string log = folder / format("run{}/log.jsonl", i);
    while (p.running() && file_size(log).value_or(0) == 0) ::usleep(200);  // the first step
    ::usleep(static_cast<useconds_t>(7000 * i));
    p.send(SIGINT);
    const Outcome o = p.wait();
    INFO(o.all());
    CHECK(o.code == 130);
    CHECK(path_exists(folder / format("run{}/latest/manifest.json", i)));
  }
}

}  // namespace braid::e2e
