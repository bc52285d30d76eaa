#include "braid/report/table.h"

#include <algorithm>

#include "braid/base/format.h"

namespace braid {

std::string text_table(const TextRows& rows, bool last_is_text) {
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (size_t c = 0; c < row.size(); ++c) widths[c] = std::max(widths[c], row[c].size());
  }
  std::string out;
  for (const auto& row : rows) {
    for (size_t c = 0; c < row.size(); ++c) {
      const bool left = c == 0 || (last_is_text && c + 1 == row.size());
      const bool last = c + 1 == row.size();
      if (left) {
        out += last ? row[c] : format("{:<{}}", row[c], widths[c]);
      } else {
        out += format("{:>{}}", row[c], widths[c]);
      }
      out += last ? "\n" : "  ";
    }
  }
  return out;
}

}  // namespace braid
