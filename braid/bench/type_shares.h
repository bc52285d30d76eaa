#pragma once
// Which types a model's parameters are kept in: what a type that was asked for became.

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/ops/parameter.h"

namespace braid {

struct TypeShare {
  WeightType type = WeightType::kF32;
  int64_t parameters = 0;
  size_t bytes = 0;
};

// Largest first. `types` of the parameters in their order.
std::vector<TypeShare> type_shares(const ParameterSet& parameters,
                                   std::span<const WeightType> types);
// "q4 12.1 MiB in 28, q8 4.00 MiB in 1, f32 9.0 KiB in 17"; what became of q4min, had it been
// `wanted`, with its reason.
std::string type_shares_text(std::span<const TypeShare> shares, std::optional<WeightType> wanted);
// [{"type": "q4", "parameters": 28, "bytes": 12700000}]
Json type_shares_json(std::span<const TypeShare> shares);

}  // namespace braid
