// A handler on a computing thread once overwrote what just-in-time kernels keep below the stack
// pointer: one interrupt in ten ended in a crash (cli/command.h, start_signal_thread).
#include "tests/braid_process.h"

namespace braid::e2e {

TEST_CASE("interrupts at any moment save and exit 130") {
  const Folder folder;
  std::string text;
  for (int i = 0; i < 2000; ++i) text += format("line {} of a text\n", i);
  write_file(folder / "text.txt", text);
  for (int i = 0; i < 40; ++i) {
    Process p({"train", "--stack", "kda, swiglu, gqa, swiglu", "--width", "64", "--data",
               folder / "text.txt", "--time", "60s", "--batch", "2", "--seq-len", "64", "--out",
               folder / format("run{}", i)});
    ::usleep(400000 + 7000 * i);
    p.send(SIGINT);
    const Outcome o = p.wait();
    INFO(o.all());
    CHECK(o.code == 130);
    CHECK(path_exists(folder / format("run{}/latest/manifest.json", i)));
  }
}

}  // namespace braid::e2e
