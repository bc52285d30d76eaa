#pragma once

#include <string>
#include <string_view>

namespace braid {

// As a shell reads it back: in single quotes where there are other than plain characters.
std::string shell_word(std::string_view text);

}  // namespace braid
