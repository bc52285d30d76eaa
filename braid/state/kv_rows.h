#pragma once
// What saving and loading of keys, values and latents share.

#include <cstring>
#include <string_view>

#include "braid/state/layer_state.h"
#include "braid/state/state_options.h"

namespace braid {

constexpr DType kv_dtype(KvType type) {
  return type == KvType::kF32 ? DType::kF32 : type == KvType::kBF16 ? DType::kBF16 : DType::kU8;
}

// Between a page and a row of a file: from the page when `out`.
inline void exchange_bytes(std::byte* page, std::byte* row, int64_t size, bool out) {
  std::memcpy(out ? row : page, out ? page : row, static_cast<size_t>(size));
}

// The length of a saved state. Throws Error(kBadInput) when it is negative or the state is of
// another type than `type`.
int64_t load_kv_header(StateReader& in, std::string_view prefix, KvType type);

}  // namespace braid
