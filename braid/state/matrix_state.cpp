#include "braid/state/matrix_state.h"

#include "braid/base/format.h"
#include "braid/state/state_copy.h"

namespace braid {

MatrixState::MatrixState(const Context& ctx, int64_t heads, int64_t key_dim, int64_t value_dim)
    : arena_(ctx.arena), matrix_(Tensor::zeros(ctx, {heads, key_dim, value_dim})) {}

std::unique_ptr<LayerState> MatrixState::snapshot() const {
  Context ctx{arena_};
  auto copy = std::make_unique<MatrixState>(ctx, matrix_.size(0), matrix_.size(1), matrix_.size(2));
  copy->restore(*this);
  return copy;
}

void MatrixState::restore(const LayerState& other) {
  const auto* from = dynamic_cast<const MatrixState*>(&other);
  BRAID_CHECK(from != nullptr);
  copy_values(from->matrix_, matrix_, arena_->dry());
  length_ = from->length_;
}

void MatrixState::save(StateWriter& out, std::string_view prefix) const {
  out.tensor(state_name(prefix, "matrix"), matrix_);
  out.integer(state_name(prefix, "length"), length_);
}

void MatrixState::load(StateReader& in, std::string_view prefix) {
  const std::string name = state_name(prefix, "length");
  const int64_t length = in.integer(name);
  if (length < 0)
    throw Error(ErrorKind::kBadInput, format("{} is {}, expected 0 or more", name, length));
  copy_values(in.tensor(state_name(prefix, "matrix"), matrix_.shape()), matrix_, arena_->dry());
  length_ = length;
}

void MatrixState::reset() {
  zero_values(matrix_, arena_->dry());
  length_ = 0;
}

}  // namespace braid
