#pragma once
// A layer that attends over the tokens before one, whatever it is called: what it does with their
// positions and how its prompts are computed. `plan`, warnings beyond the length a model was made
// for and the prediction of memory ask it; a layer that carries a state alone is none.

#include <cstdint>
#include <string>

namespace braid {

struct AttendedPositions {
  bool rope = false;    // positions turn queries and keys
  double theta = 0;     // 0 without
  double rotary = 1;    // share of a head that turns
  std::string scaling;  // as the option rope_scaling says it, "" = none
  int64_t window = 0;   // tokens seen, a reader's those of its publisher; 0: all before
  bool operator==(const AttendedPositions&) const = default;
};

class Attender {
 public:
  virtual ~Attender() = default;
  virtual AttendedPositions positions() const = 0;
  // Whether a prompt's attention takes a library's products on this machine, with its buffers, in
  // the types that the weights have now.
  virtual bool needs_library() const { return true; }
};

}  // namespace braid
