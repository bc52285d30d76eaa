#include "braid/kernels/optim/muon.h"

#include <algorithm>

#include "braid/kernels/gemm/gemm.h"

namespace braid {

const Quintic kNewtonSchulz[kMuonIterations] = {{3.4445f, -4.7750f, 2.0315f},
                                                {3.4445f, -4.7750f, 2.0315f},
                                                {3.4445f, -4.7750f, 2.0315f},
                                                {3.4445f, -4.7750f, 2.0315f},
                                                {3.4445f, -4.7750f, 2.0315f}};
const Quintic kPolarExpress[kMuonIterations] = {
    {8.156554524902461f, -22.48329292557795f, 15.878769915207462f},
    {4.042929935166739f, -2.808917465908714f, 0.5000178451051316f},
    {3.8916678022926607f, -2.772484153217685f, 0.5060648178503393f},
    {3.285753657755655f, -2.3681294933425376f, 0.46449024233003106f},
    {2.3465413258596377f, -1.7097828382687081f, 0.42323551169305323f}};

void muon_momentum(int64_t n, float grad_scale, float beta, const float* __restrict g,
                   float* __restrict m, float* __restrict u) {
  const float add = 1.0f - beta;
  for (int64_t i = 0; i < n; ++i) {
    const float gi = g[i] * grad_scale;
    const float mi = m[i] + add * (gi - m[i]);
    m[i] = mi;
    u[i] = gi + beta * (mi - gi);
  }
}

void transpose_dense(int64_t rows, int64_t cols, const float* __restrict x, float* __restrict y) {
  constexpr int64_t kTile = 16;  // one cache line of the output per row of a tile
  for (int64_t i0 = 0; i0 < rows; i0 += kTile) {
    const int64_t i1 = std::min(rows, i0 + kTile);
    for (int64_t j0 = 0; j0 < cols; j0 += kTile) {
      const int64_t j1 = std::min(cols, j0 + kTile);
      for (int64_t j = j0; j < j1; ++j) {
        for (int64_t i = i0; i < i1; ++i) y[j * rows + i] = x[i * cols + j];
      }
    }
  }
}

void gram_rows(int64_t r, int64_t c, const float* x, int64_t begin, int64_t end, float* a) {
  gemm_f32(false, true, end - begin, end, c, x + begin * c, c, x, c, 0.0f, a + begin * r, r);
}

void symmetric_product_rows(int64_t r, const float* a, const float* b, int64_t begin, int64_t end,
                            float* out) {
  gemm_f32(false, false, end - begin, end, r, a + begin * r, r, b, r, 0.0f, out + begin * r, r);
}

void quintic_rows(int64_t r, const Quintic& q, const float* a, int64_t begin, int64_t end,
                  float* out) {
  symmetric_product_rows(r, a, a, begin, end, out);
  for (int64_t i = begin; i < end; ++i) {
    const float* ai = a + i * r;
    float* oi = out + i * r;
    for (int64_t j = 0; j < end; ++j) oi[j] = q.b * ai[j] + q.c * oi[j];
    oi[i] += q.a;
  }
}

void mirror_rows(int64_t r, float* a, int64_t begin, int64_t end) {
  constexpr int64_t kTile = 16;
  for (int64_t j0 = 0; j0 < end; j0 += kTile) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t j1 = std::min(i, j0 + kTile);
      for (int64_t j = j0; j < j1; ++j) a[j * r + i] = a[i * r + j];
    }
  }
}

void muon_apply(int64_t n, float lr, float decay, const float* __restrict o, float* __restrict w) {
  const float keep = 1.0f - decay;
  for (int64_t i = 0; i < n; ++i) w[i] = keep * w[i] - lr * o[i];
}

void muon_apply_cautious(int64_t n, float lr, float decay, const float* __restrict o,
                         float* __restrict w) {
  for (int64_t i = 0; i < n; ++i) {
    const float held = o[i] * w[i] >= 0.0f ? decay * w[i] : 0.0f;
    w[i] -= lr * o[i] + held;
  }
}

}  // namespace braid
