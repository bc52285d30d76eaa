#include "braid/infer/drafter.h"

#include <algorithm>
#include <unordered_map>

#include "braid/infer/generate.h"
#include "braid/infer/positions.h"

namespace braid {
namespace {

class NgramDrafter final : public Drafter {
 public:
  explicit NgramDrafter(int64_t n) : n_(static_cast<size_t>(n)) { BRAID_CHECK(n >= 1); }

  std::vector<int32_t> propose(std::span<const int32_t> tokens, int64_t count) override {
    index(tokens);
    if (tokens.size() <= n_) return {};
    const auto last = tokens.last(n_);
    const auto found = ends_.find(hash(last));
    if (found == ends_.end()) return {};
    const size_t end = found->second;
    if (!std::equal(last.begin(), last.end(), tokens.begin() + (end - n_))) return {};
    const size_t take = std::min(static_cast<size_t>(count), tokens.size() - end);
    return {tokens.begin() + end, tokens.begin() + end + take};
  }

 private:
  static uint64_t hash(std::span<const int32_t> ids) {
    uint64_t h = 0;
    for (const int32_t id : ids) {
      h = (h ^ static_cast<uint32_t>(id)) * 0x9e3779b97f4a7c15;
      h ^= h >> 29;
    }
    return h;
  }

  // Every n-gram but the one at the very end, by the position after its last occurrence.
  void index(std::span<const int32_t> tokens) {
    const bool longer =
        tokens.size() >= seen_.size() && std::equal(seen_.begin(), seen_.end(), tokens.begin());
    if (!longer) {
      seen_.clear();
      ends_.clear();
    }
    seen_.assign(tokens.begin(), tokens.end());
    if (!longer) next_ = n_;
    for (; next_ < tokens.size(); ++next_) ends_[hash(tokens.subspan(next_ - n_, n_))] = next_;
  }

  size_t n_;
  size_t next_ = n_;  // the first end that is not in ends_ yet
  std::vector<int32_t> seen_;
  std::unordered_map<uint64_t, size_t> ends_;
};

class ModelDrafter final : public Drafter {
 public:
  ModelDrafter(const Context& ctx, Model& draft)
      : ctx_(ctx), draft_(draft), state_(draft.new_sequence(ctx)) {}

  std::vector<int32_t> propose(std::span<const int32_t> tokens, int64_t count) override {
    count = std::min(count, most_tokens(draft_.settings()) - std::ssize(tokens) + 1);
    if (count < 1) return {};
    follow(tokens);
    base_ = state_.snapshot();
    std::vector<int32_t> guess;
    while (std::ssize(guess) < count) {
      const std::span<const float> logits(state_.logits.data(),
                                          static_cast<size_t>(state_.logits.count()));
      const int32_t best = sample(logits, {}, greedy(), 0);
      guess.push_back(best);
      if (std::ssize(guess) < count) advance(ctx_, draft_, state_, {&best, 1});
    }
    return guess;
  }

 private:
  static SamplingConfig greedy() {
    SamplingConfig c;
    c.temperature = 0;
    return c;
  }
  static bool starts_with(std::span<const int32_t> tokens, const SequenceState& state) {
    return state.tokens.size() <= tokens.size() &&
           std::equal(state.tokens.begin(), state.tokens.end(), tokens.begin());
  }
  // Brings the draft's state to the end of `tokens`, from where its guesses were right.
  void follow(std::span<const int32_t> tokens) {
    if (!starts_with(tokens, state_)) {
      if (base_.layers.size() == state_.layers.size() && starts_with(tokens, base_)) {
        state_.restore(base_);
      } else {
        state_ = draft_.new_sequence(ctx_);
      }
    }
    advance(ctx_, draft_, state_, tokens.subspan(state_.tokens.size()));
  }

  const Context& ctx_;
  Model& draft_;
  SequenceState state_;
  SequenceState base_;  // at the end of the text that the last guess followed
};

}  // namespace

std::unique_ptr<Drafter> ngram_drafter(int64_t n) { return std::make_unique<NgramDrafter>(n); }

std::unique_ptr<Drafter> model_drafter(const Context& ctx, Model& draft) {
  return std::make_unique<ModelDrafter>(ctx, draft);
}

}  // namespace braid
