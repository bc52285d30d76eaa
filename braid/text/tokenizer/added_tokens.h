#pragma once
// Tokens that are found in a text before anything else looks at it.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "braid/text/tokenizer/regex.h"

namespace braid {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false;  // not inside a word
  bool lstrip = false;       // takes the white space before it
  bool rstrip = false;       // takes the white space after it
  bool normalized = false;   // looked for in the normalised text
  bool special = false;
};

// Finds the leftmost of them, the longest where several begin.
class AddedTokenFinder {
 public:
  struct Section {
    Range range;
    int32_t id;  // -1: plain text
  };
  void add(std::string_view spelling, const AddedToken& token);
  bool empty() const { return tokens_.empty(); }
  // Sections in order that cover the text.
  void split(std::string_view text, bool allow_special, std::vector<Section>& sections) const;

 private:
  struct Match {
    size_t end = 0;
    int32_t token = -1;
  };
  Match longest_at(std::string_view text, size_t at) const;
  std::vector<AddedToken> tokens_;
  // A trie; children of a node are a list sorted by nothing, for few tokens share a start.
  struct Node {
    int32_t token = -1;
    std::vector<std::pair<uint8_t, int32_t>> children;
  };
  std::vector<Node> nodes_ = std::vector<Node>(1);
  bool starts_[256] = {};
};

}  // namespace braid
