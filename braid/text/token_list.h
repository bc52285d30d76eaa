#pragma once
// Token ids that a person or another program wrote.

#include <cstdint>
#include <string_view>
#include <vector>

namespace braid {

// Whole numbers with anything of " ,;[]" and line ends between them: "1,2,3", "[1, 2, 3]", one a
// line; none at all is an empty list. Throws Error(kUsage) naming `from` for what is no number or
// no id of any vocabulary.
std::vector<int32_t> read_ids(std::string_view text, std::string_view from);

// The same, refusing none at all, more than 2^22 of them, and ids beyond the vocabulary.
std::vector<int32_t> read_tokens(std::string_view text, std::string_view from, int64_t vocab);

}  // namespace braid
