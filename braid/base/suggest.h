#pragma once
// "did you mean": the known name nearest to a misspelt one, for error messages.

#include <span>
#include <string>
#include <string_view>

namespace braid {

// Insertions, deletions, replacements and swaps of neighbours, each at cost 1; case does not count.
size_t edit_distance(std::string_view a, std::string_view b);

// The nearest of `names` (the first of equals), or "" where none is near enough to be meant.
std::string_view nearest_name(std::string_view word, std::span<const std::string_view> names);

// The fewest such edits after which `pattern` would fit `text` (matches_pattern in strings.h).
size_t pattern_distance(std::string_view text, std::string_view pattern);

// "; did you mean 'heads'?", or "; known: a, b, c" where none is near and `names` is not empty.
std::string suggestion(std::string_view word, std::span<const std::string_view> names);

}  // namespace braid
