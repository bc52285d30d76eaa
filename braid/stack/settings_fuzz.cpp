// Any bytes are either settings that print to the same settings again, or throw braid::Error that
// blames the input.

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/stack/settings.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  braid::ModelSettings settings;
  try {
    settings = braid::parse_settings({reinterpret_cast<const char*>(data), size});
  } catch (const braid::Error& e) {
    BRAID_CHECK(e.kind() == braid::ErrorKind::kUsage || e.kind() == braid::ErrorKind::kBadInput);
    return 0;
  }
  const std::string text = braid::print_settings(settings);
  const braid::ModelSettings again = braid::parse_settings(text);
  BRAID_CHECK(again == settings);
  BRAID_CHECK(braid::print_settings(again) == text);
  try {
    braid::resolved(settings);
  } catch (const braid::Error& e) {
    BRAID_CHECK(e.kind() == braid::ErrorKind::kUsage);
  }
  return 0;
}
