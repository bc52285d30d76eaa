#pragma once
// Reading the components of a tokenizer.json: objects with a "type".

#include <string>
#include <string_view>

#include "braid/base/json.h"

namespace braid {

// The component's type.
const std::string& component_type(const Json& json);
// Throws Error(kBadInput): "pre_tokenizer 'Foo' is not known".
[[noreturn]] void unknown_component(std::string_view what, const Json& json);

// A member, or the default where it is missing or null.
bool bool_or(const Json& json, std::string_view key, bool otherwise);
std::string string_or(const Json& json, std::string_view key, std::string_view otherwise);
int64_t int_or(const Json& json, std::string_view key, int64_t otherwise);
// A string that must be one character.
std::string one_character(const Json& json, std::string_view key);

}  // namespace braid
