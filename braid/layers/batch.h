#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "braid/core/context.h"
#include "braid/layers/links.h"
#include "braid/state/layer_state.h"

namespace braid {

// A ragged batch (DESIGN section 2): tokens of several sequences laid end to end. Sequence s owns
// rows [seq_starts[s], seq_starts[s + 1]); seq_starts has one entry more than there are sequences,
// from 0 to T.
struct Batch {
  std::vector<int64_t> seq_starts;
  // Position of each sequence's first row in its sequence: 0 in training, the state's length when
  // decoding.
  std::vector<int64_t> offsets;
  // Tokens each sequence is meant to reach, for positions that are scaled by length (dynamic,
  // longrope); empty = unknown: every token is placed as the last of its sequence.
  std::vector<int64_t> contexts = {};
  // Where layers of this forward put and find values by name; null for a layer run alone.
  Links* links = nullptr;

  int64_t tokens() const { return seq_starts.empty() ? 0 : seq_starts.back(); }
  int64_t sequences() const { return static_cast<int64_t>(seq_starts.size()) - 1; }
  int64_t length(int64_t s) const { return seq_starts[s + 1] - seq_starts[s]; }
  // `count` sequences of `length` tokens each, all from position 0.
  static Batch uniform(int64_t count, int64_t length) {
    Batch b;
    for (int64_t s = 0; s <= count; ++s) b.seq_starts.push_back(s * length);
    b.offsets.assign(static_cast<size_t>(count), 0);
    return b;
  }
};

// One layer's states, one per sequence of the batch; empty = every sequence starts fresh and
// nothing is kept (training, and evaluation without a cache).
using States = std::span<LayerState* const>;

}  // namespace braid
