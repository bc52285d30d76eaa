#pragma once
// Strict conversions between text and values. Nothing here depends on the locale.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

// The whole text must be the number: no spaces, no '+', no suffix, no overflow. Null otherwise.
std::optional<int64_t> parse_int(std::string_view text);
// As above, and finite: "nan" and "inf" are refused.
std::optional<double> parse_real(std::string_view text);
std::optional<bool> parse_bool(std::string_view text);  // "true" or "false"

// The shortest decimal text that reads back as the same value ("0.1", "1e-06", "-5").
std::string shortest_text(double value);

// What stands between the separators, empty pieces included; an empty text is one empty piece. Of
// the text's own memory.
std::vector<std::string_view> split(std::string_view text, char separator);

// `*` in the pattern stands for any run of characters, `#` for a number (one digit and more), `?`
// for one character; the rest for itself.
bool matches_pattern(std::string_view text, std::string_view pattern);

// For messages: control characters and what is not ASCII become '?', more than `limit` characters
// are cut to "...".
std::string printable(std::string_view text, size_t limit = 60);

}  // namespace braid
