// Any bytes are either JSON that prints, in both forms, to the same value, or throw
// braid::Error(kBadInput).

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  braid::Json json;
  try {
    json = braid::Json::parse({reinterpret_cast<const char*>(data), size});
  } catch (const braid::Error& e) {
    BRAID_CHECK(e.kind() == braid::ErrorKind::kBadInput);
    return 0;
  }
  BRAID_CHECK(braid::Json::parse(json.dump()) == json);
  BRAID_CHECK(braid::Json::parse(json.dump_pretty()) == json);
  return 0;
}
