#pragma once
// What is put around the ids of a text: the "post_processor" of a tokenizer.json.

#include <cstdint>
#include <vector>

#include "braid/base/json.h"

namespace braid {

// Ids, or the text itself where the id is -1.
using IdTemplate = std::vector<int32_t>;
constexpr int32_t kTextItself = -1;

// Templates to be applied one after the other. Throws Error(kBadInput) naming the component.
std::vector<IdTemplate> parse_postprocessor(const Json& json);
void apply_template(const IdTemplate& form, std::vector<int32_t>& ids);

}  // namespace braid
