#include "braid/train/schedule.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"

namespace braid {
namespace {

TEST_CASE("schedules at their corners") {
  Schedule s{ScheduleKind::kWsd, 10, 0.4, 0.1};
  CHECK(s.lr_scale(0, 0) == doctest::Approx(0.1));
  CHECK(s.lr_scale(9, 0.01) == doctest::Approx(1));
  CHECK(s.lr_scale(500, 0.6) == doctest::Approx(1));
  CHECK(s.lr_scale(500, 0.8) == doctest::Approx(0.55));
  CHECK(s.lr_scale(999, 1) == doctest::Approx(0.1));
  CHECK(s.lr_scale(999, 1.7) == doctest::Approx(0.1));
  s.kind = ScheduleKind::kCosine;
  CHECK(s.lr_scale(100, 0) == doctest::Approx(1));
  CHECK(s.lr_scale(100, 0.5) == doctest::Approx(0.55));
  CHECK(s.lr_scale(100, 1) == doctest::Approx(0.1));
  s.kind = ScheduleKind::kConstant;
  CHECK(s.lr_scale(100, 1) == 1);
  s.warmup_steps = 0;
  CHECK(s.lr_scale(0, 0) == 1);
  for (const char* name : {"constant", "cosine", "wsd"})
    CHECK(std::string_view(schedule_name(parse_schedule(name))) == name);
  CHECK_THROWS_WITH_AS(parse_schedule("linear"), doctest::Contains("constant, cosine or wsd"),
                       Error);
  s.min_ratio = 2;
  CHECK_THROWS_WITH_AS(check_schedule(s), doctest::Contains("is 2; it must be from 0 to 1"), Error);
}

TEST_CASE("the budget nearest to its end counts") {
  const Budget b{100, 0, 10};
  CHECK(b.progress(50, 1 << 20, 2) == doctest::Approx(0.5));
  CHECK(b.progress(50, 0, 8) == doctest::Approx(0.8));
  CHECK_FALSE(b.spent(99, 0, 9.9));
  CHECK(b.spent(100, 0, 0));
  CHECK(Budget{}.progress(100, 100, 100) == 0);
}

}  // namespace
}  // namespace braid
