#pragma once
// What filters and methods of text share.

#include "braid/text/jinja/value.h"

namespace braid::jinja {

// str.replace; count below 0 replaces all. An empty `old` stands between all characters.
std::string replaced(Heap& heap, const std::string& s, const std::string& old,
                     const std::string& with, int64_t count);
std::vector<std::string_view> split_lines(std::string_view s, bool keep_ends);
// Filled up to `width` characters: side < 0 keeps the text left, > 0 right, 0 in the middle.
std::string justified(const std::string& s, int64_t width, std::string_view fill, int side);

}  // namespace braid::jinja
