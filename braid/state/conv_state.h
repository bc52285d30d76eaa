#pragma once

#include "braid/state/layer_state.h"

namespace braid {

// The last raw inputs of a short convolution, oldest first: window [Kc - 1, C], zeros at the start
// of a sequence.
class ConvState final : public LayerState {
 public:
  ConvState(const Context& ctx, int64_t taps, int64_t channels);

  // Moved on in place by ops/conv.h; the layer then reports the tokens with advance().
  const Tensor& window() const { return window_; }
  void advance(int64_t tokens) { length_ += tokens; }

  std::string_view kind() const override { return "conv"; }
  int64_t length() const override { return length_; }
  size_t bytes() const override { return window_.bytes(); }
  std::unique_ptr<LayerState> snapshot() const override;
  void restore(const LayerState& other) override;
  void save(StateWriter& out, std::string_view prefix) const override;
  void load(StateReader& in, std::string_view prefix) override;
  void reset() override;

 private:
  std::shared_ptr<Arena> arena_;
  Tensor window_;
  int64_t length_ = 0;
};

}  // namespace braid
