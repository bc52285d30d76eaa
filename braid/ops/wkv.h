#pragma once
// The recurrence of RWKV-6 (arXiv 2404.05892) on the one kernel family of ops/recurrence.h, and
// what it and RWKV-7 (2503.14456) add to their output.

#include <span>
#include <vector>

#include "braid/ops/parameter.h"
#include "braid/ops/recurrence.h"
#include "braid/ops/tape.h"

namespace braid {

// Read before the write (RWKV-6):
//   o_t = S^T r_t,   then S = Diag(exp(g_t)) S + k_t v_t^T.
// A token reads what its predecessor left, so it is the unified recurrence with keys, values and
// decays one token later and one row more per sequence. r, g, k [T, H, K], v [T, H, V].
struct PreReadInputs {
  Tensor r, g, k, v;
};
Tensor pre_read(const Context& ctx, const PreReadInputs& in, std::span<const int64_t> seq_starts,
                std::span<float* const> states = {});
// The recurrence that pre_read() runs, of sequences that start at pre_read_starts().
RecurrenceConfig pre_read_recurrence();
RecurrenceInputs pre_read_operands(const Context& ctx, const PreReadInputs& in,
                                   std::span<const int64_t> seq_starts);
std::vector<int64_t> pre_read_starts(std::span<const int64_t> seq_starts);

// o + (sum_c r k u)_h v per head: a token's own weight. o, v [T, H, V], r, k [T, H, K], u [H, K];
// o contiguous, the others' rows may be strided.
Tensor add_bonus(const Context& ctx, const Tensor& o, const Tensor& r, const Tensor& k,
                 const Tensor& v, Parameter& u);

}  // namespace braid
