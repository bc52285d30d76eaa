#include "braid/infer/decoder.h"

#include <algorithm>

#include "braid/base/clock.h"
#include "braid/base/format.h"
#include "braid/infer/generate.h"
#include "braid/ops/step.h"

namespace braid {
namespace {

// Drafting is judged by its pace against plain steps of the same sequence, first measured on so
// many tokens; a verdict comes after as many drafted ones.
constexpr int64_t kPlainTokens = 8;
constexpr int64_t kJudgedTokens = 32;

std::vector<float> row_of(const Tensor& logits, int64_t row) {
  const float* from = logits.data() + row * logits.size(1);
  return {from, from + logits.size(1)};
}

}  // namespace

Decoder::Decoder(const Context& ctx, Model& model, SequenceState& sequence,
                 const SamplingConfig& config, Drafter* drafter)
    : ctx_(ctx),
      model_(model),
      sequence_(sequence),
      config_(config),
      drafter_(drafter),
      history_(sequence.tokens),
      logits_(sequence.logits.data(), sequence.logits.data() + sequence.logits.count()) {}

int32_t Decoder::sampled(std::span<const float> logits) const {
  return sample(logits, history_, config_, sequence_.draws);
}

void Decoder::take(int32_t token) {
  ++sequence_.draws;
  history_.push_back(token);
  out_.push_back(token);
}

bool Decoder::drafting() {
  return drafter_ != nullptr && stats_.off.empty() && plain_.tokens >= kPlainTokens;
}

std::span<const int32_t> Decoder::next(int64_t most) {
  BRAID_CHECK(most >= 1);
  out_.clear();
  const double start = now_seconds();
  const bool drafted = drafting();
  take(sampled(logits_));
  std::vector<int32_t> guesses;
  if (drafted) {
    const int64_t waiting = std::ssize(history_) - std::ssize(sequence_.tokens);
    const int64_t room = std::min(kStepTokens - waiting, most - 1);
    if (room > 0) guesses = drafter_->propose(history_, room);
  }
  if (guesses.empty()) {
    step();
  } else {
    verify(guesses);
  }
  Pace& pace = drafted ? drafted_ : plain_;
  pace.seconds += now_seconds() - start;
  pace.tokens += std::ssize(out_);
  if (drafted) judge();
  return out_;
}

// Feeds what the states have not seen, one token as a rule.
void Decoder::step() {
  flush();
  logits_.assign(sequence_.logits.data(), sequence_.logits.data() + sequence_.logits.count());
}

void Decoder::flush() {
  if (history_.size() == sequence_.tokens.size()) return;
  const std::span<const int32_t> all(history_);
  advance(ctx_, model_, sequence_, all.subspan(sequence_.tokens.size()));
  ++stats_.passes;
}

void Decoder::verify(const std::vector<int32_t>& guesses) {
  before_ = sequence_.snapshot();
  const int64_t seen = std::ssize(sequence_.tokens);
  std::vector<int32_t> fed(history_.begin() + seen, history_.end());
  const int64_t known = std::ssize(fed);  // the logits of guess i stand in row known - 1 + i
  fed.insert(fed.end(), guesses.begin(), guesses.end());
  Batch batch;
  batch.seq_starts = {0, std::ssize(fed)};
  batch.offsets = {seen};
  SequenceState* const one[] = {&sequence_};
  const Tensor logits = model_.logits(ctx_, model_.hidden(ctx_, fed, batch, one));
  ++stats_.passes;
  stats_.drafted += std::ssize(guesses);
  int64_t right = 0;
  for (const int32_t guess : guesses) {
    const std::vector<float> row = row_of(logits, known - 1 + right);
    if (sampled(row) != guess) break;
    take(guess);
    ++right;
  }
  stats_.accepted += right;
  logits_ = row_of(logits, known - 1 + right);
  if (right == std::ssize(guesses)) {
    sequence_.logits = logits.narrow(0, logits.size(0) - 1, 1).reshape({logits.size(1)});
    return;
  }
  back_to_snapshot();
}

void Decoder::back_to_snapshot() {
  before_.draws = sequence_.draws;
  sequence_.restore(before_);
}

void Decoder::judge() {
  if (drafted_.tokens < kJudgedTokens) return;
  if (drafted_.per_token() > plain_.per_token()) {
    stats_.off = format("{:.2f} ms a token drafted, {:.2f} ms plain; {} of {} guesses were right",
                        drafted_.per_token() * 1e3, plain_.per_token() * 1e3, stats_.accepted,
                        stats_.drafted);
  }
  drafted_ = {};
}

void Decoder::finish(int64_t kept) {
  BRAID_CHECK(kept >= 1 && kept <= std::ssize(out_));
  const size_t cut = out_.size() - static_cast<size_t>(kept);
  history_.resize(history_.size() - cut);
  sequence_.draws -= cut;
  if (sequence_.tokens.size() > history_.size()) back_to_snapshot();
  flush();
}

}  // namespace braid
