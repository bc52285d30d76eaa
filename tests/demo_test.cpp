// `make demo` in a second: what tools/demo.sh asks of the program still works, twice in one folder.

#include <cstdlib>

#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

TEST_CASE("the demo trains, writes and reports, and again in the folder it has made") {
  const Folder f;
  write_file(f / "text.txt", some_text(20000));
  const std::string command = format(
      "BRAID='{}' DATA='{}' DEMO_OUT='{}' DEMO_TIME=1s DEMO_STACK='gqa, swiglu' tools/demo.sh "
      ">'{}' 2>&1",
      std::getenv("BRAID_BINARY"), f / "text.txt", f / "run", f / "said");
  for (int round = 0; round < 2; ++round) {
    CAPTURE(round);
    const int status = std::system(command.c_str());
    INFO(read_file(f / "said"));
    CHECK(status == 0);
    CHECK(path_exists(f / "run/report.html"));
  }
}

}  // namespace
}  // namespace braid::e2e
