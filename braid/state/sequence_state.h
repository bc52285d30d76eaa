#pragma once
// Everything a sequence is, as one value (DESIGN section 3): the states of all layers, its tokens
// and its sampler's counter. Copied by snapshot(), stored by save(), resumed bit for bit.

#include <cstdint>
#include <memory>
#include <vector>

#include "braid/state/layer_state.h"

namespace braid {

struct SequenceState {
  std::vector<std::unique_ptr<LayerState>>
      layers;                   // by executed sub-layer; null where it remembers nothing
  std::vector<int32_t> tokens;  // what the layers have seen, in order
  Tensor logits;                // [vocab] after the last token; undefined when fresh
  uint64_t seed = 0;            // of the sampler
  uint64_t draws = 0;           // random numbers the sampler has used

  size_t bytes() const;
  SequenceState snapshot() const;
  void restore(const SequenceState& other);
  void save(StateWriter& out) const;
  // Into a state made by the same model. Throws Error(kBadInput) where the layers differ.
  void load(StateReader& in);
};

}  // namespace braid
