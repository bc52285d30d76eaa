#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace braid {

// With or without the '=' at the end; nullopt for anything else than base64.
std::optional<std::string> decode_base64(std::string_view text);

}  // namespace braid
