#include "braid/state/conv_state.h"

#include "braid/base/format.h"
#include "braid/state/state_copy.h"

namespace braid {

ConvState::ConvState(const Context& ctx, int64_t taps, int64_t channels)
    : arena_(ctx.arena), window_(Tensor::zeros(ctx, {taps - 1, channels})) {}

std::unique_ptr<LayerState> ConvState::snapshot() const {
  Context ctx{arena_};
  auto copy = std::make_unique<ConvState>(ctx, window_.size(0) + 1, window_.size(1));
  copy->restore(*this);
  return copy;
}

void ConvState::restore(const LayerState& other) {
  const auto* from = dynamic_cast<const ConvState*>(&other);
  BRAID_CHECK(from != nullptr);
  copy_values(from->window_, window_, arena_->dry());
  length_ = from->length_;
}

void ConvState::save(StateWriter& out, std::string_view prefix) const {
  out.tensor(state_name(prefix, "window"), window_);
  out.integer(state_name(prefix, "length"), length_);
}

void ConvState::load(StateReader& in, std::string_view prefix) {
  const std::string name = state_name(prefix, "length");
  const int64_t length = in.integer(name);
  if (length < 0)
    throw Error(ErrorKind::kBadInput, format("{} is {}, expected 0 or more", name, length));
  copy_values(in.tensor(state_name(prefix, "window"), window_.shape()), window_, arena_->dry());
  length_ = length;
}

void ConvState::reset() {
  zero_values(window_, arena_->dry());
  length_ = 0;
}

}  // namespace braid
