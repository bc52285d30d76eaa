#include "braid/state/kv_rows.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/state/state_copy.h"

namespace braid {

int64_t load_kv_header(StateReader& in, std::string_view prefix, KvType type) {
  const std::string name = state_name(prefix, "length");
  const int64_t length = in.integer(name), saved = in.integer(state_name(prefix, "type"));
  if (length < 0)
    throw Error(ErrorKind::kBadInput, format("{} is {}, expected 0 or more", name, length));
  if (saved != static_cast<int64_t>(type)) {
    const bool known = saved >= 0 && saved <= static_cast<int64_t>(KvType::kQ8);
    throw Error(ErrorKind::kBadInput,
                format("{}type is {}, this sequence keeps {}; use --kv {}", prefix,
                       known ? kv_type_name(static_cast<KvType>(saved)) : std::to_string(saved),
                       kv_type_name(type), known ? kv_type_name(static_cast<KvType>(saved)) : "?"));
  }
  return length;
}

}  // namespace braid
