#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/importers/family.h"

namespace braid {

#define BRAID_FAMILY(name) Family family_##name();
#include "braid/importers/families/list.inc"
#undef BRAID_FAMILY

std::span<const Family> families() {
  static const std::vector<Family> all = {
#define BRAID_FAMILY(name) family_##name(),
#include "braid/importers/families/list.inc"
#undef BRAID_FAMILY
  };
  return all;
}

const Family* find_family(std::string_view name) {
  for (const Family& f : families()) {
    if (name == f.name) return &f;
  }
  return nullptr;
}

const Family& family_of(const ConfigReader& config) {
  std::string known;
  for (const Family& f : families()) {
    for (const char* type : f.model_types) {
      if (config.model_type() == type) return f;
      known += (known.empty() ? "" : ", ") + std::string(type);
    }
  }
  config.fail(config.model_type().empty() ? "there is no model_type"
                                          : format("model_type is \"{}\"; known: {}",
                                                   printable(config.model_type()), known));
}

namespace {

// Weights are stored in a form that the reader knows; returns the rows and columns of an fp8 scale.
int64_t read_quantization(ConfigReader& config) {
  for (const char* key : {"compression_config", "quantization"}) {
    if (const Json* other = config.find(key)) {
      config.fail(format("{} is {}: weights of {} are not known; fp8 in blocks and mxfp4 are", key,
                         printable(other->dump()),
                         std::string_view(key) == "quantization" ? "MLX" : "compressed-tensors"));
    }
  }
  const Json* q = config.find("quantization_config");
  if (q == nullptr) return 128;
  const Json* method = q->is_object() ? q->find("quant_method") : nullptr;
  const std::string name = method != nullptr && method->is_string() ? method->as_string() : "";
  if (name == "mxfp4") return 128;
  if (name.empty()) {
    config.fail(
        format("quantization_config names no quant_method: {}; fp8 in blocks and mxfp4 are "
               "known",
               printable(q->dump())));
  }
  if (name != "fp8") {
    config.fail(
        format("quantization_config has quant_method \"{}\"; fp8 in blocks and mxfp4 are "
               "known",
               printable(name)));
  }
  const Json* block = q->find("weight_block_size");
  if (block == nullptr || block->is_null()) {
    config.fail("quantization_config is fp8 without weight_block_size; only blocks are known");
  }
  const bool square = block->is_array() && block->size() == 2 && block->elements()[0].is_int() &&
                      block->elements()[0] == block->elements()[1] &&
                      block->elements()[0].as_real() >= 1 &&
                      block->elements()[0].as_real() <= 65536;
  if (!square) {
    config.fail(format("weight_block_size is {}, not [n, n]", printable(block->dump())));
  }
  return block->elements()[0].as_int();
}

}  // namespace

namespace {

// What a config says must be what a model.toml can say: the same ranges hold for both, and a
// converted model keeps its settings there.
void check_ranges(const ModelSettings& settings, const std::string& source) {
  try {
    parse_settings(print_settings(settings));
  } catch (const Error& e) {
    throw Error(ErrorKind::kBadInput, format("{}, as a {}", source, e.what()));
  }
}

}  // namespace

ReadConfig read_config(const Json& json, const std::string& source) {
  ConfigReader config(json, source);
  ReadConfig out;
  out.family = &family_of(config);
  out.fp8_block = read_quantization(config);
  out.model = out.family->read(config);
  config.finish();
  check_ranges(out.model.settings, source);
  return out;
}

}  // namespace braid
