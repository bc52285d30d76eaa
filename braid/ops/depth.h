#pragma once
// Softmax over depth (Attention Residuals, arXiv 2603.15031; specs/depth-and-memory.md section 1).

#include <span>
#include <vector>

#include "braid/ops/parameter.h"
#include "braid/ops/tape.h"

namespace braid {

struct DepthConfig {
  double eps = 1e-6;  // of the norm of the keys
  double scale = 1;   // of the logits
};

// h [T, D] = sum_s alpha_s v_s, alpha = softmax over s of scale query . (rms(v_s) norm); values are
// not normalised. sources: S >= 1 contiguous [T, D]; query, norm [D].
Tensor depth_softmax(const Context& ctx, std::span<const Tensor> sources, Parameter& query,
                     Parameter& norm, const DepthConfig& config = {});

// Gradients of depth_softmax. dv[s] is written, or added to where it is defined on entry; sources
// with want[s] false get none. Adds to query.grad and norm.grad. `stats` is what the forward pass
// kept.
void depth_softmax_backward(const Context& ctx, std::span<const Tensor> sources, Parameter& query,
                            Parameter& norm, const DepthConfig& config, const Tensor& stats,
                            const Tensor& dh, const std::vector<bool>& want,
                            std::vector<Tensor>& dv);

// Phase one of the two-phase read: the queries of one block share a pass over its completed
// sources. No gradients.
struct DepthPartial {
  Tensor m;    // [Q, T] largest logit
  Tensor z;    // [Q, T] sum of exp(logit - m)
  Tensor sum;  // [Q, T, D] sum of exp(logit - m) v
  Tensor u;    // [Q, D] query x norm
};
struct DepthQuery {
  Parameter* query;
  Parameter* norm;
};
DepthPartial depth_partial(const Context& ctx, std::span<const Tensor> sources,
                           std::span<const DepthQuery> queries, const DepthConfig& config = {});

// Phase two: query i of the block merged with one more source p [T, D]; undefined p: none.
Tensor depth_merge(const Context& ctx, const DepthPartial& partial, int64_t i, const Tensor& p,
                   const DepthConfig& config = {});

}  // namespace braid
