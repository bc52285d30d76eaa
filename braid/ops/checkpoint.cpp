#include "braid/ops/checkpoint.h"

namespace braid {

Tensor checkpoint(const Context& ctx, const Tensor& x,
                  std::function<Tensor(const Context&, const Tensor&)> body) {
  if (ctx.tape == nullptr) return body(ctx, x);
  Context plain = ctx;
  plain.tape = nullptr;
  Tensor y = body(plain, x);
  y.set_slot(-1);
  ctx.tape->record(y, [x, body = std::move(body)](Tape& t, const Tensor& dy) {
    Tape inner;
    Context again = t.context();
    again.tape = &inner;
    again.counters = nullptr;
    Tensor leaf = x;
    inner.watch(leaf);
    const Tensor y = body(again, leaf);
    inner.backward(t.context(), y, dy);
    t.add_losses(inner.losses());
    Tensor dx = inner.grad(leaf);
    if (dx.defined()) t.add(x, dx);
  });
  return y;
}

}  // namespace braid
