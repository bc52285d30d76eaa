#include "braid/train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {

ScheduleKind parse_schedule(std::string_view name) {
  for (const ScheduleKind kind :
       {ScheduleKind::kConstant, ScheduleKind::kCosine, ScheduleKind::kWsd}) {
    if (name == schedule_name(kind)) return kind;
  }
  throw Error(ErrorKind::kUsage, format("unknown schedule \"{}\": constant, cosine or wsd", name));
}

const char* schedule_name(ScheduleKind kind) {
  switch (kind) {
    case ScheduleKind::kConstant:
      return "constant";
    case ScheduleKind::kCosine:
      return "cosine";
    case ScheduleKind::kWsd:
      return "wsd";
  }
  return "?";
}

double Schedule::lr_scale(int64_t step, double progress) const {
  const double p = std::clamp(progress, 0.0, 1.0);
  const double warmup =
      step < warmup_steps ? static_cast<double>(step + 1) / static_cast<double>(warmup_steps) : 1.0;
  double scale = 1.0;
  if (kind == ScheduleKind::kCosine) {
    scale = min_ratio + (1 - min_ratio) * 0.5 * (1 + std::cos(std::numbers::pi * p));
  } else if (kind == ScheduleKind::kWsd && decay_fraction > 0) {
    const double left = std::min(1.0, (1.0 - p) / decay_fraction);
    scale = min_ratio + (1 - min_ratio) * left;
  }
  return warmup * scale;
}

double Budget::progress(int64_t steps_done, int64_t tokens_done, double seconds_done) const {
  double p = 0;
  if (steps > 0) p = std::max(p, static_cast<double>(steps_done) / static_cast<double>(steps));
  if (tokens > 0) p = std::max(p, static_cast<double>(tokens_done) / static_cast<double>(tokens));
  if (seconds > 0) p = std::max(p, seconds_done / seconds);
  return p;
}

void check_schedule(const Schedule& s) {
  const auto check = [](const char* name, double value, double low, double high) {
    if (value >= low && value <= high) return;
    throw Error(ErrorKind::kUsage,
                format("{} is {}; it must be from {} to {}", name, value, low, high));
  };
  check("warmup", static_cast<double>(s.warmup_steps), 0, 1e12);
  check("decay fraction", s.decay_fraction, 0, 1);
  check("least lr ratio", s.min_ratio, 0, 1);
}

}  // namespace braid
