#include <algorithm>
#include <cmath>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/report/report.h"

namespace braid {
namespace {

void add_auxiliary(const Json& line, RunReport& r) {
  const Json* losses = line.find("auxiliary");
  if (losses == nullptr) return;
  for (const Json::Member& m : losses->members()) {
    if (!m.value.is_number()) continue;  // NaN, of a step left out
    auto known = std::ranges::find(r.auxiliary, m.key, &AuxiliaryLoss::name);
    if (known == r.auxiliary.end())
      known = r.auxiliary.insert(known, {m.key, m.value.as_real(), 0});
    known->last = m.value.as_real();
  }
}

// Sums over the steps.
struct Work {
  double tokens = 0, gflop = 0, seconds = 0;
};

void add_line(const Json& line, RunReport& r, Work& sum) {
  if (line.at("bpb").is_null()) return;  // a step with a NaN loss, left out
  const LossPoint point{line.at("step").as_int(), line.at("bpb").as_real()};
  if (line.at("event").as_string() != "step") {
    r.validation.push_back(point);
    return;
  }
  r.training.push_back(point);
  add_auxiliary(line, r);
  const double took = line.at("seconds").as_real();
  sum.tokens += line.at("tokens").as_real();
  sum.gflop += line.at("gflops").as_real() * took;
  sum.seconds += took;
}

}  // namespace

void read_training_log(std::string_view log, RunReport& r) {
  Work sum;
  int64_t number = 1;
  for (size_t at = 0; at < log.size(); ++number) {
    const size_t end = std::min(log.find('\n', at), log.size());
    try {
      add_line(Json::parse(log.substr(at, end - at)), r, sum);
    } catch (Error& e) {
      throw e.add_context(format("line {}", number));
    }
    at = end + 1;
  }
  if (!(sum.seconds > 0)) return;
  r.tokens_per_second = sum.tokens / sum.seconds;
  r.share_of_peak = sum.gflop / sum.seconds / r.peak_gflops;
}

}  // namespace braid
