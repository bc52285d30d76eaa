#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace braid {

// Turns bytes that arrive one by one into text that can be shown: whole UTF-8 code points only,
// invalid bytes replaced by U+FFFD, and nothing that might still become a stop string.
class TextStream {
 public:
  explicit TextStream(std::vector<std::string> stops = {}) : stops_(std::move(stops)) {}
  // The text that became certain with these bytes. After a stop string is complete, returns what
  // stood before it and stopped() turns true.
  std::string push(std::string_view bytes);
  std::string finish();  // what is left, incomplete code points replaced
  bool stopped() const { return stopped_; }

 private:
  std::string take_valid(bool last);
  std::string hold_back(bool last);
  std::vector<std::string> stops_;
  std::string raw_;    // bytes not yet valid text
  std::string ready_;  // text that may be the start of a stop string
  bool stopped_ = false;
};

}  // namespace braid
