#pragma once
// The learning rate over a run. A pure function of where the run stands, so that it needs no state
// of its own.

#include <cstdint>
#include <string_view>

namespace braid {

enum class ScheduleKind { kConstant, kCosine, kWsd };

// "constant", "cosine" or "wsd"; throws Error(kUsage) naming the three.
ScheduleKind parse_schedule(std::string_view name);
const char* schedule_name(ScheduleKind kind);

struct Schedule {
  ScheduleKind kind = ScheduleKind::kWsd;
  int64_t warmup_steps = 0;     // linear from 1/warmup to 1
  double decay_fraction = 0.4;  // of the whole run, at its end (kWsd)
  double min_ratio = 0.05;      // of the peak, at the end (kCosine, kWsd)

  // The factor on the peak lr of step `step` (from 0) at `progress` in [0, 1]: the share of the
  // budget that is spent, counted in steps, tokens or seconds by the caller. Values outside [0, 1]
  // are clamped.
  double lr_scale(int64_t step, double progress) const;
};

// Spent over budget for whichever of a run's budgets is closest to its end; one of 0 means "no such
// budget". 0 when there is no budget at all.
struct Budget {
  int64_t steps = 0;
  int64_t tokens = 0;
  double seconds = 0;
  double progress(int64_t steps_done, int64_t tokens_done, double seconds_done) const;
  bool spent(int64_t steps_done, int64_t tokens_done, double seconds_done) const {
    return progress(steps_done, tokens_done, seconds_done) >= 1.0;
  }
};

// Throws Error(kUsage) for a schedule whose numbers are out of range.
void check_schedule(const Schedule& schedule);

}  // namespace braid
