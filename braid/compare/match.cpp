#include "braid/compare/match.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/bench/stack_cost.h"
#include "braid/stack/model.h"

namespace braid {
namespace {

constexpr MatchKind kKinds[] = {MatchKind::kNone, MatchKind::kParams, MatchKind::kFlops,
                                MatchKind::kTime};

// Widths are tried in steps of whole vectors, and finer where that leaves more than kCloseEnough of
// difference.
constexpr int64_t kWidthStep = 8, kFineStep = 2;
constexpr double kCloseEnough = 0.02;
constexpr int64_t kMostWidthRatio = 4;  // to the width that was asked for, either way

int64_t count_parameters(const ModelSettings& settings) {
  Context dry;
  dry.arena = Arena::create(Arena::Mode::kDry);
  return Model(dry, settings).parameters().trained_count();
}

// The size of a head stays, for it is part of what a mixer is; unless their number was asked for,
// it follows the width, rounded down or up.
ModelSettings at_width(const ModelSettings& given, int64_t width, bool up) {
  ModelSettings s = given;
  s.head_dim = resolved(given).head_dim;
  s.width = width;
  if (given.heads == 0) {
    s.heads = std::max<int64_t>(1, (width + (up ? s.head_dim - 1 : 0)) / s.head_dim);
  }
  return s;
}

class WidthSearch {
 public:
  WidthSearch(const ModelSettings& given, int64_t wanted) : given_(given), wanted_(wanted) {
    consider(given, count_parameters(given));
  }

  ModelSettings run() {
    scan(kWidthStep);
    if (distance_ > kCloseEnough) scan(kFineStep);
    return best_;
  }

 private:
  // From the low end up, until there are far more parameters than wanted.
  void scan(int64_t step) {
    const int64_t from = (given_.width / kMostWidthRatio + step - 1) / step * step;
    for (int64_t w = std::max(step, from); w <= given_.width * kMostWidthRatio; w += step) {
      for (const bool up : {false, true}) {
        const ModelSettings s = at_width(given_, w, up);
        const std::optional<int64_t> parameters = parameters_of(s);
        if (!parameters) continue;
        consider(s, *parameters);
        if (*parameters > 2 * wanted_) return;
      }
    }
  }

  // Null for a width that the stack's layers cannot take.
  static std::optional<int64_t> parameters_of(const ModelSettings& s) {
    try {
      return count_parameters(s);
    } catch (const Error&) {
      return std::nullopt;
    }
  }

  void consider(const ModelSettings& s, int64_t parameters) {
    const double distance =
        std::abs(std::log(static_cast<double>(parameters) / static_cast<double>(wanted_)));
    if (distance >= distance_) return;
    distance_ = distance;
    best_ = s;
  }

  const ModelSettings& given_;
  int64_t wanted_;
  ModelSettings best_;
  double distance_ = INFINITY;
};

ComparedStack described(const ModelSettings& settings, const RunConfig& base) {
  PlanOptions options = step_options(base);
  options.prefill = 1;
  options.contexts = {1};
  const Plan plan = make_plan(settings, options, MachineLimits{});
  ComparedStack s;
  s.expression = plan.stack;
  s.settings = resolved(settings);
  s.parameters = plan.parameters;
  s.active = plan.active_parameters;
  s.step_flops = plan.train_flops;
  s.budget = base.budget;
  return s;
}

}  // namespace

const char* match_name(MatchKind kind) {
  constexpr const char* names[] = {"none", "params", "flops", "time"};
  return names[static_cast<int>(kind)];
}

MatchKind parse_match(std::string_view name) {
  for (const MatchKind kind : kKinds) {
    if (name == match_name(kind)) return kind;
  }
  throw Error(ErrorKind::kUsage,
              format("--match is \"{}\"; it must be params, flops, time or none", name));
}

std::vector<ComparedStack> match_stacks(std::span<const ModelSettings> stacks, MatchKind kind,
                                        const RunConfig& base) {
  std::vector<ComparedStack> out;
  for (size_t i = 0; i < stacks.size(); ++i) {
    const std::string label = stack_label(i);
    try {
      const bool search = kind == MatchKind::kParams && i > 0;
      out.push_back(
          described(search ? WidthSearch(stacks[i], out[0].parameters).run() : stacks[i], base));
    } catch (Error& e) {
      throw e.add_context("stack " + label);
    }
    ComparedStack& s = out.back();
    s.label = label;
    if (kind != MatchKind::kFlops) continue;
    s.budget.steps = std::max<int64_t>(1, std::llround(training_flops(out[0]) / s.step_flops));
  }
  return out;
}

PlanOptions step_options(const RunConfig& run) {
  PlanOptions options;
  options.batch = run.batch;
  options.seq_len = run.seq_len;
  options.accumulate = run.accumulate;
  options.recompute = run.recompute;
  options.use_muon = run.optim.use_muon;
  return options;
}

double training_flops(const ComparedStack& stack) {
  return static_cast<double>(stack.budget.steps) * stack.step_flops;
}

}  // namespace braid
