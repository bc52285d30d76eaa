#include "braid/bench/type_shares.h"

#include <algorithm>
#include <functional>

#include "braid/base/format.h"
#include "braid/report/units.h"

namespace braid {

std::vector<TypeShare> type_shares(const ParameterSet& parameters,
                                   std::span<const WeightType> types) {
  BRAID_CHECK(types.size() == parameters.size());
  std::vector<TypeShare> shares;
  for (auto type = types.begin(); const Parameter& p : parameters) {
    auto share = std::ranges::find(shares, *type, &TypeShare::type);
    if (share == shares.end()) share = shares.insert(share, {*type});
    ++share->parameters;
    share->bytes += bytes_as(p, *type++);
  }
  std::ranges::stable_sort(shares, std::greater(), &TypeShare::bytes);
  return shares;
}

std::string type_shares_text(std::span<const TypeShare> shares, std::optional<WeightType> wanted) {
  std::string out;
  for (const TypeShare& s : shares) {
    out += format("{}{} {} in {}", out.empty() ? "" : ", ", weight_type_name(s.type),
                  bytes_text(static_cast<double>(s.bytes)), s.parameters);
    if (wanted == WeightType::kQ4Min && s.type == WeightType::kQ4)
      out += format(" whose columns are no multiple of {}", kSuperBlock);
  }
  return out;
}

Json type_shares_json(std::span<const TypeShare> shares) {
  Json list = Json::array();
  for (const TypeShare& s : shares) {
    list.push(Json::object(
        {{"type", weight_type_name(s.type)}, {"parameters", s.parameters}, {"bytes", s.bytes}}));
  }
  return list;
}

}  // namespace braid
