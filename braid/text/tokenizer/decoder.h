#pragma once
// From tokens back to text: the "decoder" of a tokenizer.json. Its steps are defined on the list of
// all tokens; here they run on tokens that arrive one by one and hold back what may still change.

#include <memory>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/text/tokenizer/regex.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

class DecodeStep;  // one step at work

// A step as the file describes it.
class DecodeRule {
 public:
  virtual ~DecodeRule() = default;
  // `joined`: what arrives are chunks of one token, for a step before has joined them. Sets it when
  // this step joins.
  virtual std::unique_ptr<DecodeStep> start(bool& joined, bool lossy) const = 0;
};

class DecodeStep {
 public:
  virtual ~DecodeStep() = default;
  virtual void push(std::string_view token) = 0;
  virtual void finish() {}  // all tokens have been pushed
  void set_next(DecodeStep* next) { next_ = next; }
  DecodeStep* next() const { return next_; }

 protected:
  void emit(std::string_view token) { next_->push(token); }

 private:
  DecodeStep* next_ = nullptr;
};

// A sequence becomes its members; null joins tokens with spaces. Throws Error(kBadInput) naming the
// component.
std::vector<std::unique_ptr<DecodeRule>> parse_decoder(const Json& json);
std::unique_ptr<DecodeRule> byte_level_decoder();

// Runs all rules. They must outlive it.
std::unique_ptr<DecodeStream> start_decoder(const std::vector<std::unique_ptr<DecodeRule>>& rules,
                                            bool lossy);

}  // namespace braid
