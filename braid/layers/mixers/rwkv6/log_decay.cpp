#include "braid/layers/mixers/rwkv6/log_decay.h"

#include <algorithm>
#include <cmath>

#include "braid/core/parallel.h"

namespace braid {
namespace {

constexpr float kMost = 9.210340f;  // log(1e4)
constexpr int64_t kGrain = 1 << 14;

}  // namespace

Tensor log_decay(const Context& ctx, const Tensor& w) {
  BRAID_CHECK(w.contiguous());
  Tensor y = Tensor::empty(ctx, w.shape());
  parallel_for(ctx, w.count(), kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) y.data()[i] = -std::exp(std::min(w.data()[i], kMost));
  });
  if (Tape* tape = recording(ctx, {&w})) {
    const Tensor kept = y;  // before it gets a slot: the values only
    tape->record(y, [w, kept](Tape& t, const Tensor& dy) {
      Tensor dw = Tensor::empty(t.context(), w.shape());
      parallel_for(t.context(), w.count(), kGrain, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
          dw.data()[i] = w.data()[i] < kMost ? kept.data()[i] * dy.data()[i] : 0.0f;
        }
      });
      t.add(w, std::move(dw));
    });
  }
  return y;
}

}  // namespace braid
