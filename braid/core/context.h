#pragma once
// What an operation needs besides its operands, passed explicitly: no globals.

#include <cstdint>
#include <memory>

#include "braid/core/arena.h"

namespace braid {

class Tape;  // ops/tape.h

// Arithmetic done so far, counted where it is asked for (not inside kernels).
struct Counters {
  double product_flops =
      0;  // matrix products and the recurrences' chunk products; 1 multiply-add = 2
};

struct Context {
  std::shared_ptr<Arena> arena = Arena::create();
  int threads = 0;               // 0 = all cores of the machine
  Tape* tape = nullptr;          // records operations for backward; null outside training
  Counters* counters = nullptr;  // null = not counted
  double loss_share = 1;         // of the step's loss that this pass makes up (micro-batches)

  // Only shapes, bytes and FLOPs are wanted; kernels do not run and data must not be touched.
  bool dry() const { return arena->dry(); }
  void count_product(double flops) const {
    if (counters != nullptr) counters->product_flops += flops;
  }
};

}  // namespace braid
