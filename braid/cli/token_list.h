#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

// Whole numbers with anything but digits between them: "1,2,3", "[1, 2, 3]", one a line. Throws
// Error(kUsage) naming `from` for anything else, for more than 2^22 of them and for ids beyond the
// vocabulary.
std::vector<int32_t> read_tokens(std::string_view text, const std::string& from, int64_t vocab);

}  // namespace braid
