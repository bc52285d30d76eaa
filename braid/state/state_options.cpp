#include "braid/state/state_options.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {

const char* kv_type_name(KvType type) {
  return type == KvType::kF32 ? "f32" : type == KvType::kBF16 ? "bf16" : "q8";
}

KvType parse_kv_type(std::string_view text) {
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kQ8}) {
    if (text == kv_type_name(type)) return type;
  }
  throw Error(ErrorKind::kUsage,
              format("'{}' is no type of keys and values; f32, bf16 and q8 are", printable(text)));
}

}  // namespace braid
