// Any bytes are either a stack expression whose canonical text reads back as the same tree and
// prints the same again, or throw braid::Error(kUsage).

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/stack/spec.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  braid::StackSpec spec;
  try {
    spec = braid::parse_stack({reinterpret_cast<const char*>(data), size});
  } catch (const braid::Error& e) {
    BRAID_CHECK(e.kind() == braid::ErrorKind::kUsage);
    return 0;
  }
  const std::string text = braid::print_stack(spec);
  const braid::StackSpec again = braid::parse_stack(text);
  BRAID_CHECK(again == spec);
  BRAID_CHECK(braid::print_stack(again) == text);
  // Unrolling is linear in the count; large ones would only slow the search down.
  if (braid::count_sublayers(spec) > 1000) return 0;
  const braid::FlatStack flat = braid::flatten(spec);
  int64_t run = 0;
  for (const auto& step : flat.steps) {
    const auto leaf = static_cast<size_t>(flat.layers[static_cast<size_t>(step.layer)]);
    run += static_cast<int64_t>(flat.leaves[leaf].layers.size());
  }
  BRAID_CHECK(run == braid::count_sublayers(spec));
  return 0;
}
