#include "braid/infer/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/rng.h"

namespace braid {
namespace {

struct Candidate {
  int32_t token;
  double weight;  // logit, then probability up to a factor
};

void penalise(std::vector<Candidate>& c, std::span<const int32_t> history,
              const SamplingConfig& config) {
  if (config.repetition_penalty == 1.0) return;
  if (config.repetition_window > 0 && std::ssize(history) > config.repetition_window) {
    history = history.last(static_cast<size_t>(config.repetition_window));
  }
  std::vector<bool> seen(c.size(), false);
  for (const int32_t t : history) {
    const size_t i = static_cast<size_t>(t);
    if (i >= c.size() || seen[i]) continue;
    seen[i] = true;
    c[i].weight = c[i].weight > 0 ? c[i].weight / config.repetition_penalty
                                  : c[i].weight * config.repetition_penalty;
  }
}

// Of NaN and infinity no order and no probability can be made.
void require_numbers(std::span<const float> logits) {
  const auto bad = std::find_if(logits.begin(), logits.end(), [](float x) {
    return !(x < std::numeric_limits<float>::infinity());
  });
  if (bad == logits.end()) return;
  throw Error(ErrorKind::kBadInput,
              format("the model gives token {} the logit {}: its weights or the loaded state are "
                     "damaged, or its training diverged",
                     bad - logits.begin(), *bad));
}

// Best first; keeps the candidates that the filters allow, at least one.
void filter(std::vector<Candidate>& c, const SamplingConfig& config) {
  std::sort(c.begin(), c.end(), [](const Candidate& a, const Candidate& b) {
    return a.weight != b.weight ? a.weight > b.weight : a.token < b.token;
  });
  if (config.top_k > 0 && config.top_k < std::ssize(c)) c.resize(static_cast<size_t>(config.top_k));
  const double best = c.front().weight;
  double total = 0;
  for (Candidate& x : c) total += x.weight = std::exp((x.weight - best) / config.temperature);
  size_t keep = c.size();
  double mass = 0;
  for (size_t i = 0; i < c.size() && config.top_p < 1.0; ++i) {
    mass += c[i].weight;
    if (mass >= config.top_p * total) {
      keep = i + 1;
      break;
    }
  }
  while (keep > 1 && c[keep - 1].weight < config.min_p) --keep;  // the best weight is 1
  c.resize(keep);
}

}  // namespace

void check_sampling(const SamplingConfig& c) {
  const auto refuse = [](const char* flag, double value, const char* range) {
    throw Error(ErrorKind::kUsage, format("{} is {}; it must be {}", flag, value, range));
  };
  if (!(c.temperature >= 0) || std::isinf(c.temperature))
    refuse("--temp", c.temperature, "0 (greedy) or more");
  if (c.top_k < 0) refuse("--top-k", static_cast<double>(c.top_k), "0 (off) or more");
  if (!(c.top_p > 0 && c.top_p <= 1)) refuse("--top-p", c.top_p, "above 0 and at most 1 (off)");
  if (!(c.min_p >= 0 && c.min_p <= 1)) refuse("--min-p", c.min_p, "from 0 (off) to 1");
  if (!(c.repetition_penalty > 0))
    refuse("--repeat-penalty", c.repetition_penalty, "above 0 (1 is off)");
}

int32_t sample(std::span<const float> logits, std::span<const int32_t> history,
               const SamplingConfig& config, uint64_t draw) {
  require_numbers(logits);
  std::vector<Candidate> c(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) c[i] = {static_cast<int32_t>(i), logits[i]};
  penalise(c, history, config);
  if (config.temperature == 0) {
    return std::max_element(
               c.begin(), c.end(),
               [](const Candidate& a, const Candidate& b) { return a.weight < b.weight; })
        ->token;
  }
  filter(c, config);
  double total = 0;
  for (const Candidate& x : c) total += x.weight;
  double u = Rng(config.seed, "sample").uniform(draw) * total;
  for (const Candidate& x : c) {
    u -= x.weight;
    if (u < 0) return x.token;
  }
  return c.back().token;
}

}  // namespace braid
