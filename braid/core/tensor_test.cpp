#include "braid/core/tensor.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/core/context.h"

namespace braid {

TEST_CASE("a tensor that no machine could hold is refused, not wrapped around") {
  Context dry;
  dry.arena = Arena::create(Arena::Mode::kDry);
  constexpr int64_t kHuge = int64_t{1} << 31;
  for (const Context& ctx : {Context(), dry}) {
    // In bytes of f32 the first is 2^64.
    for (const Shape& shape : {Shape{kHuge, kHuge}, Shape{kHuge, kHuge, kHuge}}) {
      INFO(shape.str());
      CHECK_THROWS_WITH_AS(Tensor::empty(ctx, shape), doctest::Contains("larger than any memory"),
                           Error);
    }
  }
  CHECK(Tensor::empty(dry, {kHuge, 1 << 16}).count() == kHuge << 16);
}

}  // namespace braid
