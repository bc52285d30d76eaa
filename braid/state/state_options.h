#pragma once

#include <string_view>

#include "braid/kernels/attention/kv_type.h"

namespace braid {

// How the states of a sequence are made. Sequences that go on from each other's states agree.
struct StateOptions {
  KvType kv = KvType::kF32;  // of keys, values and latents; recurrent states are f32
};

const char* kv_type_name(KvType type);        // "f32", "bf16", "q8"
KvType parse_kv_type(std::string_view text);  // throws Error(kUsage)

}  // namespace braid
