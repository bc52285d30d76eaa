#pragma once

#include <span>
#include <string>
#include <vector>

namespace braid {

using TextRows = std::vector<std::vector<std::string>>;

// Rows for a terminal, columns right-aligned but the first, and but a last one of text.
std::string text_table(const TextRows& rows, bool last_is_text = false);

}  // namespace braid
