#include "braid/core/parallel.h"

#include <doctest/doctest.h>

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
