#pragma once
// How a text is cut into pieces that the vocabulary encodes one by one: the "pre_tokenizer" of a
// tokenizer.json.

#include <memory>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/text/tokenizer/regex.h"

namespace braid {

// Pieces are ranges of one text, in order; none is empty.
struct Pieces {
  std::string text;
  std::vector<Range> ranges;
  bool at_start = false;  // the first piece begins where the whole text begins
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Pieces& pieces, Regex::Scratch& scratch) const = 0;
  // True for the step that spells bytes as characters and does nothing else.
  virtual bool maps_bytes() const { return false; }
};

// A sequence becomes its members; null becomes none. Throws Error(kBadInput) naming the component.
std::vector<std::unique_ptr<PreTokenizer>> parse_pretokenizers(const Json& json);

// Every match of the regex is a piece, and what stands between matches too.
std::unique_ptr<PreTokenizer> split_isolated(Regex regex);

}  // namespace braid
