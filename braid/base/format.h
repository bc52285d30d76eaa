#pragma once
// format("{} of {}", a, b): fmt behind one name. (fmt/core.h is what fmt 9 calls fmt/base.h.)

#include <fmt/core.h>

#include <string>

namespace braid {

template <typename... Args>
std::string format(fmt::format_string<Args...> text, Args&&... args) {
  return fmt::vformat(text, fmt::make_format_args(args...));
}

}  // namespace braid
