#include "braid/importers/tensor_prefix.h"

#include <algorithm>
#include <string>

namespace braid {
namespace {

constexpr const char* kPrefixes[] = {"model.", "model.language_model.", "language_model.model.",
                                     "",       "transformer.",          "backbone."};
constexpr const char* kHeads[] = {"", "language_model.", "model."};

const char* first_of(const TensorSource& source, std::span<const char* const> prefixes,
                     std::string_view tail) {
  const auto found = std::find_if(prefixes.begin(), prefixes.end(), [&](const char* p) {
    return source.find(std::string(p).append(tail)) != nullptr;
  });
  return found == prefixes.end() ? nullptr : *found;
}

}  // namespace

std::span<const char* const> tensor_prefixes() { return kPrefixes; }

const char* prefix_of(const TensorSource& source, std::string_view tail) {
  return first_of(source, kPrefixes, tail);
}

const char* head_prefix_of(const TensorSource& source) {
  return first_of(source, kHeads, "lm_head.weight");
}

}  // namespace braid
