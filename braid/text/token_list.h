#pragma once
// Token ids that a person or another program wrote.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

// Whole numbers with anything but digits between them: "1,2,3", "[1, 2, 3]", one a line. Throws
// Error(kUsage) naming `from` for anything else, for more than 2^22 of them and for ids beyond the
// vocabulary.
std::vector<int32_t> read_tokens(std::string_view text, const std::string& from, int64_t vocab);

// Whole numbers with anything of " ,;[]" and line ends between them; none at all is an empty list.
// Throws Error(kUsage) for what is no number or no id of any vocabulary.
std::vector<int32_t> read_ids(std::string_view text);

}  // namespace braid
