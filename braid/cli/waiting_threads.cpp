#include "braid/cli/waiting_threads.h"

#include <unistd.h>

#include <cstdlib>

namespace braid {
namespace {

// Turns of the waiting loop: long enough for the next parallel region of a decoded token.
constexpr const char* kSpins = "2000";

}  // namespace

void keep_spins_short(char** argv) {
  if (::getenv("OMP_WAIT_POLICY") != nullptr || ::getenv("GOMP_SPINCOUNT") != nullptr) return;
  char path[4097] = {};  // the program's own, for /proc/self/exe would become its name
  if (::readlink("/proc/self/exe", path, 4096) <= 0) return;
  ::setenv("GOMP_SPINCOUNT", kSpins, 1);
  ::execv(path, argv);
  // It could not be started again (its file is gone): it goes on as it is.
}

}  // namespace braid
