#pragma once

#include "braid/state/layer_state.h"

namespace braid {

// The recurrent state of a linear mixer: S [HV, K, V], row = key channel, zeros at the start of a
// sequence.
class MatrixState final : public LayerState {
 public:
  MatrixState(const Context& ctx, int64_t heads, int64_t key_dim, int64_t value_dim);

  // Updated in place by ops/recurrence.h; the layer then reports the tokens with advance().
  const Tensor& matrix() const { return matrix_; }
  void advance(int64_t tokens) { length_ += tokens; }

  std::string_view kind() const override { return "matrix"; }
  int64_t length() const override { return length_; }
  size_t bytes() const override { return matrix_.bytes(); }
  std::unique_ptr<LayerState> snapshot() const override;
  void restore(const LayerState& other) override;
  void save(StateWriter& out, std::string_view prefix) const override;
  void load(StateReader& in, std::string_view prefix) override;
  void reset() override;

 private:
  std::shared_ptr<Arena> arena_;
  Tensor matrix_;
  int64_t length_ = 0;
};

}  // namespace braid
