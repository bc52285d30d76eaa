#pragma once
// A layer that attends to a part of its past only, by a choice of its own (nsa, moba, dsa). A short
// sequence has nothing to choose from, so that its tests would say nothing of the choice.

#include <cstdint>
#include <memory>

#include "braid/layers/layer.h"

namespace braid {

class Chooser {
 public:
  virtual ~Chooser() = default;
  // Tokens that are all seen, whatever is chosen: the first one more may leave some out.
  virtual int64_t sees() const = 0;
  // The same layer over the same parameters, which must outlive it, that sees() as few tokens as
  // its other options allow; null where this layer makes no choice.
  virtual std::unique_ptr<Layer> narrowed() const = 0;
};

}  // namespace braid
