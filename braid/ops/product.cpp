#include "braid/ops/product.h"

#include <algorithm>

#include "braid/core/parallel.h"
#include "braid/kernels/gemm/gemm.h"

namespace braid {
namespace {

constexpr int64_t kMaxTileRows = 512;
constexpr double kMinTileFlops = 8e6;

int64_t half(int64_t x) { return (x / 2 + 15) / 16 * 16; }

}  // namespace

ProductTile product_tile(int64_t m, int64_t n, int64_t k) {
  ProductTile t{m, n};
  const auto count = [&] { return ((m + t.m - 1) / t.m) * ((n + t.n - 1) / t.n); };
  const auto flops = [&] {
    return 2.0 * static_cast<double>(t.m) * static_cast<double>(t.n) * static_cast<double>(k);
  };
  while (count() < 4 && flops() > kMinTileFlops && std::max(t.m, t.n) > 32) {
    if (t.m >= t.n) {
      t.m = half(t.m);
    } else {
      t.n = half(t.n);
    }
  }
  t.m = std::min(t.m, kMaxTileRows);
  return t;
}

void product(const Context& ctx, bool trans_a, bool trans_b, int64_t m, int64_t n, int64_t k,
             const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c,
             int64_t ldc) {
  if (m == 0 || n == 0) return;
  ctx.count_product(2.0 * static_cast<double>(m) * static_cast<double>(n) * static_cast<double>(k));
  if (m <= kGemvRows && !trans_a && trans_b && beta == 0) {
    parallel_for(ctx, n, grain_for(n, 16), [&](int64_t begin, int64_t end) {
      for (int64_t i = 0; i < m; ++i) gemv_f32(b, ldb, k, a + i * lda, c + i * ldc, begin, end);
    });
    return;
  }
  const ProductTile t = product_tile(m, n, k);
  const int64_t tiles_n = (n + t.n - 1) / t.n, tiles_m = (m + t.m - 1) / t.m;
  parallel_for(ctx, tiles_m * tiles_n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      const int64_t i = tile / tiles_n * t.m, j = tile % tiles_n * t.n;
      gemm_f32(trans_a, trans_b, std::min(t.m, m - i), std::min(t.n, n - j), k,
               trans_a ? a + i : a + i * lda, lda, trans_b ? b + j * ldb : b + j, ldb, beta,
               c + i * ldc + j, ldc);
    }
  });
}

}  // namespace braid
