#pragma once
// Guesses at what follows, for speculative decoding (arXiv 2211.17192). A wrong guess costs time
// and never changes the output (decoder.h).

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "braid/stack/model.h"

namespace braid {

class Drafter {
 public:
  virtual ~Drafter() = default;
  // Up to `count` tokens that may follow `tokens`, all tokens of the sequence so far. Successive
  // calls see longer texts, or other ones.
  virtual std::vector<int32_t> propose(std::span<const int32_t> tokens, int64_t count) = 0;
};

// What followed the last earlier occurrence of the last `n` tokens (prompt lookup). n >= 1.
std::unique_ptr<Drafter> ngram_drafter(int64_t n);

// The most likely continuation by a smaller model with the same vocabulary; both must outlive the
// drafter. The draft's own states go back by snapshots.
std::unique_ptr<Drafter> model_drafter(const Context& ctx, Model& draft);

}  // namespace braid
