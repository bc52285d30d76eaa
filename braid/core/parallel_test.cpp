#include "braid/core/parallel.h"

#include <doctest/doctest.h>

#include <thread>
#include <vector>

#include "braid/base/error.h"

namespace braid {

TEST_CASE("parallel_for covers every item once, whatever the number of threads") {
  for (int threads : {1, 2, 3}) {
    Context ctx;
    ctx.threads = threads;
    std::vector<int> hits(1001, 0);
    parallel_for(ctx, 1001, 7, [&](int64_t b, int64_t e) {
      CHECK(e - b <= 7);
      for (int64_t i = b; i < e; ++i) ++hits[i];
    });
    for (int h : hits) CHECK(h == 1);
  }
}

#ifdef BRAID_STD_THREADS
TEST_CASE("neighbouring ranges run on different threads, so that their races are seen") {
  Context ctx;
  ctx.threads = 2;
  std::vector<std::thread::id> ran(100);
  parallel_for(ctx, 100, 1, [&](int64_t b, int64_t) { ran[b] = std::this_thread::get_id(); });
  for (size_t i = 3; i < ran.size(); ++i) {
    for (size_t before = i - 3; before < i; ++before) CHECK(ran[i] != ran[before]);
  }
}
#endif

TEST_CASE("parallel_for carries the first exception out") {
  Context ctx;
  ctx.threads = 2;
  CHECK_THROWS_AS(parallel_for(ctx, 100, 1,
                               [](int64_t b, int64_t) {
                                 if (b == 50) throw Error(ErrorKind::kUsage, "x");
                               }),
                  Error);
}

}  // namespace braid
