#include "braid/kernels/gemm/small.h"

#include <libxsmm.h>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {

SmallGemm::SmallGemm(int64_t m, int64_t n, int64_t k, int64_t lda, int64_t ldb, int64_t ldc,
                     bool accumulate) {
  const libxsmm_blasint mm = static_cast<libxsmm_blasint>(n), nn = static_cast<libxsmm_blasint>(m),
                        kk = static_cast<libxsmm_blasint>(k), a = static_cast<libxsmm_blasint>(ldb),
                        b = static_cast<libxsmm_blasint>(lda),
                        c = static_cast<libxsmm_blasint>(ldc);
  const float alpha = 1.0f, beta = accumulate ? 1.0f : 0.0f;
  const int flags = LIBXSMM_GEMM_FLAG_NONE;
  kernel_ = libxsmm_smmdispatch(mm, nn, kk, &a, &b, &c, &alpha, &beta, &flags, nullptr);
  if (kernel_ == nullptr) {
    throw Error(
        ErrorKind::kInternal,
        format("libxsmm has no kernel for a {} x {} x {} product on this machine", m, n, k));
  }
}

}  // namespace braid
