#pragma once
// What a layer remembers of one sequence (DESIGN section 3). The layer that makes a state is the
// only one that edits it; everybody else may size, copy, store and ship it. There is no "trim to
// position": going back means restoring a snapshot.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "braid/core/tensor.h"

namespace braid {

// Named tensors and numbers in and out of a file (implemented over safetensors in
// state/state_file.cpp).
class StateWriter {
 public:
  virtual ~StateWriter() = default;
  virtual void tensor(std::string_view name, const Tensor& value) = 0;
  virtual void integer(std::string_view name, int64_t value) = 0;
};

class StateReader {
 public:
  virtual ~StateReader() = default;
  // Throws Error(kBadInput) when missing or of another shape or dtype. -1 in `shape` accepts any
  // size there.
  virtual Tensor tensor(std::string_view name, Shape shape, DType dtype = DType::kF32) = 0;
  virtual int64_t integer(std::string_view name) = 0;
};

class LayerState {
 public:
  virtual ~LayerState() = default;
  virtual std::string_view kind()
      const = 0;                       // "kv", "ring", "matrix", "conv", "group": checked by load
  virtual int64_t length() const = 0;  // tokens seen
  // It is as that many tokens leave it, as far as its length can tell: load() checks no other
  // state.
  virtual bool has_seen(int64_t tokens) const { return length() == tokens; }
  virtual size_t bytes() const = 0;  // held now (what --mem counts)
  // An independent copy with equal content; later writes to either do not show in the other. May
  // share pages copy-on-write. fork and snapshot are the same operation: a snapshot is a fork that
  // is not advanced.
  virtual std::unique_ptr<LayerState> snapshot() const = 0;
  // Becomes equal to `other`, which is of the same kind and shape, bit for bit.
  virtual void restore(const LayerState& other) = 0;
  virtual void save(StateWriter& out, std::string_view prefix) const = 0;
  virtual void load(StateReader& in, std::string_view prefix) = 0;
  virtual void reset() = 0;  // as freshly made
};

}  // namespace braid
