#pragma once
// Token after token from one sequence, drafted or not, with the same result.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "braid/infer/drafter.h"
#include "braid/infer/sampler.h"
#include "braid/state/sequence_state.h"

namespace braid {

struct DraftStats {
  int64_t drafted = 0;   // tokens guessed
  int64_t accepted = 0;  // of these
  int64_t passes = 0;    // of the model, with and without guesses
  std::string off;       // why drafting was switched off; empty while it is on
};

// Samples from sequence.logits, which must be defined. Guesses are taken where the sampler, with
// the draws it would have used anyway, draws the same token; a pass over up to kStepTokens tokens
// computes each as a step of its own would (ops/step.h). So the output is that without a drafter,
// bit for bit, sampled or greedy, also for layers that cannot go back: these return to a snapshot,
// and what was right is fed again together with the next guesses.
class Decoder {
 public:
  // drafter: null for none. All must outlive the decoder.
  Decoder(const Context& ctx, Model& model, SequenceState& sequence, const SamplingConfig& config,
          Drafter* drafter);
  // The next tokens: at least one, at most `most`. Valid until the next call.
  std::span<const int32_t> next(int64_t most);
  // Brings the sequence to the end of the tokens returned so far, of the last call only the first
  // `kept` >= 1. To be called once, when decoding ends.
  void finish(int64_t kept);
  const DraftStats& stats() const { return stats_; }

 private:
  struct Pace {  // of a stretch of decoding
    double seconds = 0;
    int64_t tokens = 0;
    double per_token() const { return seconds / static_cast<double>(tokens); }
  };
  int32_t sampled(std::span<const float> logits) const;
  void take(int32_t token);
  void step();
  void verify(const std::vector<int32_t>& guesses);
  void flush();
  void back_to_snapshot();
  bool drafting();
  void judge();

  const Context& ctx_;
  Model& model_;
  SequenceState& sequence_;
  const SamplingConfig& config_;
  Drafter* drafter_;
  std::vector<int32_t> history_;  // all tokens, also those that the states have not seen
  std::vector<int32_t> out_;      // of the last call
  std::vector<float> logits_;     // after history_
  SequenceState before_;          // the sequence before the last pass with guesses
  DraftStats stats_;
  Pace plain_, drafted_;
};

}  // namespace braid
