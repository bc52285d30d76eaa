// What a second signal does to a run that was asked to stop.

#include <algorithm>

#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

class Training {
 public:
  Training() { write_file(folder_ / "text.txt", some_text(20000)); }

  // One step computes that many windows, so that it takes as long as a test needs.
  Args args(const char* windows) const {
    return {"train",  "--stack", "gqa, swiglu", "--width",   "32", "--data", folder_ / "text.txt",
            "--time", "60s",     "--batch",     "1",         "-t", "1",      "--accumulate",
            windows,  "--out",   run(),         "--seq-len", "64"};
  }
  std::string run() const { return folder_ / "run"; }
  // From here on a signal no longer ends the process at once.
  bool begun() const { return path_exists(join_path(run(), "log.jsonl")); }
  bool stepped() const { return file_size(join_path(run(), "log.jsonl")).value_or(0) > 0; }

 private:
  Folder folder_;
};

template <typename Ready>
void wait_until(Process& process, Ready ready) {
  while (process.running() && !ready()) ::usleep(200);
}

}  // namespace

// As timeout(1) stops its child.
TEST_CASE("two signals at once save and exit 130") {
  for (const int microseconds : {0, 100, 1000, 2000, 5000, 20000}) {
    const Training training;
    Process process(training.args("50"));
    wait_until(process, [&] { return training.stepped(); });
    process.send(SIGTERM);
    ::usleep(static_cast<useconds_t>(microseconds));
    process.send(microseconds % 200 == 0 ? SIGTERM : SIGINT);
    const Outcome o = process.wait();
    INFO(microseconds, " us: ", o.all());
    CHECK(o.code == 130);
    CHECK(path_exists(join_path(training.run(), "latest/manifest.json")));
  }
}

TEST_CASE("a second signal that comes later ends the process at once") {
  bool ended = false;
  for (int attempt = 0; attempt < 5 && !ended; ++attempt) {
    const Training training;
    Process process(training.args("20000"));
    wait_until(process, [&] { return training.begun(); });
    ::usleep(200000);  // into the step, or the run stops before it
    process.send(SIGINT);
    ::usleep(700000);
    if (!process.running()) continue;
    process.send(SIGINT);
    CHECK(process.wait(5).signal == SIGINT);
    ended = true;
  }
  CHECK_MESSAGE(ended, "every run was over before its second signal came");
}

}  // namespace braid::e2e
