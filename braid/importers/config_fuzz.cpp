// Any bytes are either a config.json whose settings print and read back, or throw
// braid::Error(kBadInput). The model of the settings is refused by its layers, or every parameter
// of it stands in a tensor.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "braid/base/error.h"
#include "braid/importers/family.h"
#include "braid/importers/hf_export.h"
#include "braid/testing/fuzz_expect.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  braid::ReadConfig read;
  try {
    const auto json = braid::parse_config({reinterpret_cast<const char*>(data), size});
    read = braid::read_config(json, "config.json");
  } catch (const braid::Error& e) {
    braid::testing::expect(e);
    return 0;
  }
  const braid::ModelSettings& s = read.model.settings;
  BRAID_CHECK(braid::parse_settings(braid::print_settings(s)) == s);
  const int64_t steps = std::ssize(braid::flatten(s.stack).steps);
  BRAID_CHECK(steps == read.model.slots * read.model.layers);
  if (steps > 64) return 0;  // more of the same
  braid::Context dry;
  dry.arena = braid::Arena::create(braid::Arena::Mode::kDry);
  std::optional<braid::Model> model;
  try {
    model.emplace(dry, s, braid::Model::Fill::kDeferred);
  } catch (const braid::Error& e) {
    braid::testing::expect(e, {braid::ErrorKind::kUsage});
    return 0;
  }
  const braid::TensorMap map = braid::export_map(read.model, model->parameters());
  BRAID_CHECK(map.parameters.size() == model->parameters().size());
  return 0;
}
