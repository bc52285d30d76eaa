#pragma once
// Python's two ways to put values into a text: "%s of %d" % (a, b) and "{} of {n}".format(a, n=b).

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "braid/text/jinja/value.h"

namespace braid::jinja {

std::string percent_format(Heap& heap, std::string_view pattern, const Value& arguments);
std::string brace_format(Heap& heap, std::string_view pattern, const std::vector<Value>& positional,
                         const std::vector<std::pair<std::string, Value>>& named);

}  // namespace braid::jinja
