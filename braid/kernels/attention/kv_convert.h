#pragma once
// Keys and values into tiles of any type and out of them again.

#include "braid/kernels/attention/tiles.h"

namespace braid {

// Rows of k [T, kv_heads, d] and v [T, kv_heads, dv] with their row strides.
struct KvRows {
  const float* k;
  int64_t ld_k;
  const float* v;
  int64_t ld_v;
};

// Writes the first `rows` rows as positions [begin, begin + rows) of tile `tile` in its page,
// begin + rows <= 64.
void pack_kv_rows(const KvLayout& layout, int64_t kv_heads, const KvRows& from, int64_t tile,
                  int64_t begin, int64_t rows, std::byte* page);

// to[d, 64] = the keys of one head of a tile, to[64, dv] = its values.
void unpack_keys(const KvLayout& layout, const std::byte* keys, float* to);
void unpack_values(const KvLayout& layout, const std::byte* values, float* to);

// n values as stored: code[i] * scale, the scale returned.
float quantize_q8(const float* x, int64_t n, int8_t* codes);

}  // namespace braid
