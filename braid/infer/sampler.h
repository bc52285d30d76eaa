#pragma once

#include <cstdint>
#include <span>

namespace braid {

struct SamplingConfig {
  double temperature = 1.0;  // 0 = greedy
  int64_t top_k = 0;         // 0 = off
  double top_p = 1.0;        // nucleus mass (arXiv 1904.09751)
  double min_p = 0.0;        // share of the best probability (arXiv 2407.01082)
  double repetition_penalty =
      1.0;  // divides positive and multiplies negative logits of tokens seen (arXiv 1909.05858)
  int64_t repetition_window = 256;  // last tokens that count as seen; 0 = all
  uint64_t seed = 0;
};

// Throws Error(kUsage) for values outside their range, naming flag and value.
void check_sampling(const SamplingConfig& config);

// Draws the next token from logits [vocab] of a sequence whose tokens so far are `history`. A pure
// function of its arguments: `draw` counts the tokens sampled before in this sequence. Order of the
// filters: repetition penalty, temperature, top-k, top-p, min-p. Ties go to the lowest id. Throws
// Error(kBadInput) for a logit that is NaN or infinite; minus infinity is a token never drawn.
int32_t sample(std::span<const float> logits, std::span<const int32_t> history,
               const SamplingConfig& config, uint64_t draw);

}  // namespace braid
