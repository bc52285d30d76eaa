// Any bytes are either a config.json whose settings print and read back, or throw
// braid::Error(kBadInput).

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/importers/family.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  braid::ReadConfig read;
  try {
    const auto json = braid::parse_config({reinterpret_cast<const char*>(data), size});
    read = braid::read_config(json, "config.json");
  } catch (const braid::Error& e) {
    BRAID_CHECK(e.kind() == braid::ErrorKind::kBadInput);
    return 0;
  }
  const braid::ModelSettings& s = read.model.settings;
  BRAID_CHECK(braid::parse_settings(braid::print_settings(s)) == s);
  BRAID_CHECK(braid::count_sublayers(s.stack) == read.model.slots * read.model.layers);
  return 0;
}
