#pragma once
// The loss that trains the indexer of DeepSeek sparse attention (V3.2 report).

#include <memory>
#include <span>

#include "braid/ops/selected_attention.h"
#include "braid/ops/tape.h"

namespace braid {

struct IndexLoss {
  double coefficient = 1;
  double scale = 1;                          // of q . k
  Tensor q, k;                               // main attention's [T, H, d], read only
  Tensor index_q;                            // [T, Hi, di]
  Tensor index_k;                            // [T, di]
  Tensor weights;                            // [T, Hi], all factors in them
  std::shared_ptr<const KeySelection> keys;  // what a token's distribution is over, one set
};

// o itself. On the way back the gradient of
//   coefficient mean_t KL(p_t || softmax_s I_ts),  I_ts = sum_j w_tj relu(q_tj . k_s),
// joins that of index_q, index_k and weights; p_t is main attention averaged over its heads, which
// gets no gradient. Weighted as the loss is: a micro-batch counts by its share
// (Context::loss_share). The tape is told its value as "index" (Tape::add_loss).
Tensor with_index_loss(const Context& ctx, const Tensor& o, const IndexLoss& loss,
                       std::span<const int64_t> seq_starts);

}  // namespace braid
