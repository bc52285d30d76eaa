#pragma once
// Attention over latents (arXiv 2405.04434): what is kept of a token is one row for all heads, the
// normed latent c [rank] and the rotated key part k [rope]. With the up-projections absorbed into
// queries and outputs it is multi-query attention whose key is the row and whose value is c.

#include <cstddef>
#include <cstdint>

#include "braid/kernels/attention/kv_type.h"

namespace braid {

constexpr int64_t kLatentPage = 256;   // positions of a page: its rows one after the other
constexpr int64_t kLatentBlock = 512;  // positions of one partial result
constexpr int64_t kLatentRows = 64;    // queries of one partial result

// A row is rank + rope numbers; in q8 first f32 scales, one for 32 numbers of c and one for 32 of
// k, then the codes + 128.
struct LatentLayout {
  KvType type = KvType::kF32;
  int64_t rank = 0, rope = 0;

  int64_t width() const { return rank + rope; }
  int64_t scales() const { return type == KvType::kQ8 ? (rank + 31) / 32 + (rope + 31) / 32 : 0; }
  int64_t row() const {  // bytes
    const int64_t codes = width() * kv_element_bytes(type);
    return 4 * scales() + (codes + 3) / 4 * 4;
  }
  int64_t page() const { return kLatentPage * row(); }
};

struct LatentView {
  const std::byte* const* pages = nullptr;
  int64_t length = 0;
  LatentLayout layout;
  // Of sparse attention: row i of the view is the one at chosen[i]. Null = all rows in order.
  const int32_t* chosen = nullptr;
  // Rows of one page lie one after the other.
  const std::byte* row(int64_t position) const {
    return pages[position / kLatentPage] + position % kLatentPage * layout.row();
  }
};

void pack_latent(const LatentLayout& layout, const float* c, const float* k, std::byte* row);
// to[rows, width] = adjacent rows of a page.
void unpack_latents(const LatentLayout& layout, const std::byte* from, int64_t rows, float* to);

// Floats of a query's partial result: the sum of p c [rank], then max and sum of the softmax.
constexpr int64_t latent_partial_floats(int64_t rank) { return rank + 2; }
int64_t latent_block_scratch(const LatentView& view);

// `rows` <= 64 queries [rows, width], which carry scale * log2 e, over positions [block *
// kLatentBlock, ...) of at most kLatentBlock. Row r stands at `position` + (first_row + r) / heads
// and sees what lies before it and itself. partials [rows, latent_partial_floats].
void latent_attention_block(const LatentView& view, const float* queries, int64_t rows,
                            int64_t position, int64_t first_row, int64_t heads, int64_t block,
                            float* partials, float* scratch);

}  // namespace braid
