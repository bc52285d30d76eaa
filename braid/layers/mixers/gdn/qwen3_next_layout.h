#pragma once
// Qwen3-Next stores GDN's input projections interleaved by key head; braid, like Qwen3.5, keeps
// them apart. An importer de-interleaves once with these.

#include "braid/core/tensor.h"
#include "braid/layers/mixers/heads.h"

namespace braid {

struct GdnQkvz {
  Tensor qkv;  // in_proj_qkv.weight [2 H K + HV V, width]: all q, all k, all v
  Tensor z;    // in_proj_z.weight [HV V, width]
};
struct GdnBa {
  Tensor b;  // in_proj_b.weight [HV, width]
  Tensor a;  // in_proj_a.weight [HV, width]
};

// in_proj_qkvz.weight [2 H K + 2 HV V, width]: for every key head its q, its k, the v of its
// HV / H value heads, then their z. Throws Error(kBadInput) for another number of rows.
GdnQkvz split_qwen3_next_qkvz(const Context& ctx, const HeadSizes& sizes, const Tensor& qkvz);
// in_proj_ba.weight [2 HV, width]: for every key head the b of its value heads, then their a.
GdnBa split_qwen3_next_ba(const Context& ctx, const HeadSizes& sizes, const Tensor& ba);

}  // namespace braid
