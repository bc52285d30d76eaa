#include <algorithm>

#include "braid/core/parallel.h"
#include "braid/ops/latent_attention.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

int64_t grain(const LatentConfig& c) {
  return std::max<int64_t>(1, 16384 / (c.heads * (c.nope + c.rope + c.dv)));
}

// What expand_latent copies, copied back; k_rope takes the sum over the heads in their order.
std::pair<Tensor, Tensor> expand_backward(const Context& ctx, const LatentConfig& c,
                                          const Tensor& d_k, const Tensor& d_v, int64_t tokens) {
  const int64_t d = c.nope + c.rope, per_head = c.nope + c.dv;
  Tensor d_kv = Tensor::empty(ctx, {tokens, c.heads * per_head});
  Tensor d_rope = Tensor::empty(ctx, {tokens, c.rope});
  parallel_for(ctx, tokens, grain(c), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* rope = d_rope.data() + t * c.rope;
      std::fill(rope, rope + c.rope, 0.0f);
      for (int64_t h = 0; h < c.heads; ++h) {
        float* to = d_kv.data() + (t * c.heads + h) * per_head;
        std::fill(to, to + per_head, 0.0f);
        if (d_k.defined()) {
          const float* k = d_k.data() + (t * c.heads + h) * d;
          std::copy_n(k, c.nope, to);
          for (int64_t i = 0; i < c.rope; ++i) rope[i] += k[c.nope + i];
        }
        if (d_v.defined()) std::copy_n(d_v.data() + (t * c.heads + h) * c.dv, c.dv, to + c.nope);
      }
    }
  });
  return {d_kv, d_rope};
}

}  // namespace

std::pair<Tensor, Tensor> expand_latent(const Context& ctx, const LatentConfig& c, const Tensor& kv,
                                        const Tensor& k_rope) {
  const Rows from = rows_of(kv), rope = rows_of(k_rope);
  const int64_t tokens = from.rows, d = c.nope + c.rope, per_head = c.nope + c.dv;
  BRAID_CHECK(from.cols == c.heads * per_head && rope.cols == c.rope && rope.rows == tokens);
  Tensor k = Tensor::empty(ctx, {tokens, c.heads, d}),
         v = Tensor::empty(ctx, {tokens, c.heads, c.dv});
  parallel_for(ctx, tokens, grain(c), [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < c.heads; ++h) {
        const float* x = kv.data() + t * from.stride + h * per_head;
        float* to = k.data() + (t * c.heads + h) * d;
        std::copy_n(x, c.nope, to);
        std::copy_n(k_rope.data() + t * rope.stride, c.rope, to + c.nope);
        std::copy_n(x + c.nope, c.dv, v.data() + (t * c.heads + h) * c.dv);
      }
    }
  });
  if (Tape* tape = recording(ctx, {&kv, &k_rope})) {
    Tensor* const outputs[] = {&k, &v};
    tape->record_many(outputs, [c, kv, k_rope](Tape& t, std::span<const Tensor> grads) {
      auto [d_kv, d_rope] = expand_backward(t.context(), c, grads[0], grads[1], kv.size(0));
      t.add(kv, d_kv.reshape(kv.shape()));
      t.add(k_rope, d_rope.reshape(k_rope.shape()));
    });
  }
  return {k, v};
}

}  // namespace braid
