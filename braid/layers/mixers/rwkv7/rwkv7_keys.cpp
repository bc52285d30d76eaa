#include "braid/layers/mixers/rwkv7/rwkv7_keys.h"

#include <algorithm>
#include <cmath>

#include "braid/core/parallel.h"
#include "braid/ops/column_sums.h"

namespace braid {
namespace {

struct Sizes {
  int64_t tokens, heads, dim;
  int64_t channels() const { return heads * dim; }
  int64_t grain() const {
    return std::max<int64_t>({1, (1 << 14) / std::max<int64_t>(1, channels()), (tokens + 63) / 64});
  }
};

constexpr float kLeastNorm = 1e-12f;

// 1 / max(|k (.) k_k|, 1e-12) of one head.
float inverse_norm(int64_t dim, const float* k, const float* scale) {
  float sum = 0;
  for (int64_t c = 0; c < dim; ++c) sum += k[c] * scale[c] * (k[c] * scale[c]);
  return 1.0f / std::max(std::sqrt(sum), kLeastNorm);
}

struct Upstream {
  Tensor minus_kappa, erase, write;  // contiguous, or undefined
};

const float* row(const Tensor& x, int64_t at) { return x.defined() ? x.data() + at : nullptr; }

Tensor backward(const Context& ctx, const Sizes& n, const Tensor& k, const Tensor& eta,
                Parameter& k_k, Parameter& k_a, const Upstream& up, Tensor& d_eta) {
  Tensor dk = Tensor::empty(ctx, k.shape());
  d_eta = Tensor::empty(ctx, eta.shape());
  const ColumnSums sum_k(ctx, n.tokens, n.grain(), n.channels()),
      sum_a(ctx, n.tokens, n.grain(), n.channels());
  parallel_for(ctx, n.tokens, n.grain(), [&](int64_t begin, int64_t end) {
    float *of_k = sum_k.range(begin), *of_a = sum_a.range(begin);
    for (int64_t i = begin * n.heads; i < end * n.heads; ++i) {
      const int64_t at = i * n.dim, channel = i % n.heads * n.dim;
      const float *kd = k.data() + at, *e = eta.data() + at, *kk = k_k.value.data() + channel,
                  *ka = k_a.value.data() + channel;
      const float *dm = row(up.minus_kappa, at), *de = row(up.erase, at), *dw = row(up.write, at);
      const float inverse = inverse_norm(n.dim, kd, kk);
      const bool clamped = inverse >= 1.0f / kLeastNorm;
      // Gradient of kappa first; its part along kappa does not survive the division by the norm.
      float along = 0;
      for (int64_t c = 0; c < n.dim; ++c) {
        const float kappa = kd[c] * kk[c] * inverse;
        const float dkappa = (de ? de[c] * e[c] : 0.0f) - (dm ? dm[c] : 0.0f);
        along += kappa * dkappa;
      }
      if (clamped) along = 0;
      for (int64_t c = 0; c < n.dim; ++c) {
        const float kappa = kd[c] * kk[c] * inverse;
        const float dkappa = (de ? de[c] * e[c] : 0.0f) - (dm ? dm[c] : 0.0f);
        const float scaled = inverse * (dkappa - kappa * along);  // of k k_k
        const float write = dw ? dw[c] : 0.0f;
        dk.data()[at + c] = scaled * kk[c] + write * (1.0f + (e[c] - 1.0f) * ka[c]);
        d_eta.data()[at + c] = (de ? de[c] * kappa : 0.0f) + write * kd[c] * ka[c];
        of_k[channel + c] += scaled * kd[c];
        of_a[channel + c] += write * kd[c] * (e[c] - 1.0f);
      }
    }
  });
  if (k_k.grad.defined()) sum_k.add_to(ctx, k_k.grad);
  if (k_a.grad.defined()) sum_a.add_to(ctx, k_a.grad);
  return dk;
}

}  // namespace

Rwkv7Keys rwkv7_keys(const Context& ctx, const Tensor& k, const Tensor& eta, int64_t heads,
                     Parameter& k_k, Parameter& k_a) {
  const Sizes n{k.size(0), heads, k.size(1) / heads};
  BRAID_CHECK(k.contiguous() && eta.contiguous() && eta.shape() == k.shape());
  BRAID_CHECK(k_k.value.count() == n.channels() && k_a.value.count() == n.channels());
  const Shape shape{n.tokens, n.heads, n.dim};
  Rwkv7Keys out{Tensor::empty(ctx, shape), Tensor::empty(ctx, shape), Tensor::empty(ctx, shape)};
  parallel_for(ctx, n.tokens, n.grain(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * n.heads; i < end * n.heads; ++i) {
      const int64_t at = i * n.dim, channel = i % n.heads * n.dim;
      const float *kd = k.data() + at, *e = eta.data() + at, *kk = k_k.value.data() + channel,
                  *ka = k_a.value.data() + channel;
      const float inverse = inverse_norm(n.dim, kd, kk);
      for (int64_t c = 0; c < n.dim; ++c) {
        const float kappa = kd[c] * kk[c] * inverse;
        out.minus_kappa.data()[at + c] = -kappa;
        out.erase.data()[at + c] = kappa * e[c];
        out.write.data()[at + c] = kd[c] * (1.0f + (e[c] - 1.0f) * ka[c]);
      }
    }
  });
  if (Tape* tape = recording(ctx, {&k, &eta}, k_k.grad.defined() || k_a.grad.defined())) {
    Tensor* const outputs[] = {&out.minus_kappa, &out.erase, &out.write};
    tape->record_many(outputs, [n, k, eta, &k_k, &k_a](Tape& t, std::span<const Tensor> grads) {
      Tensor d_eta;
      Tensor dk = backward(t.context(), n, k, eta, k_k, k_a, {grads[0], grads[1], grads[2]}, d_eta);
      t.add(k, std::move(dk));
      t.add(eta, std::move(d_eta));
    });
  }
  return out;
}

}  // namespace braid
