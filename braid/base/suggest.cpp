#include "braid/base/suggest.h"

#include <algorithm>
#include <vector>

#include "braid/base/format.h"

namespace braid {
namespace {

// Longer words are never compared: a misspelt name is short, and the cost is quadratic.
constexpr size_t kLongest = 64;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

}  // namespace

size_t edit_distance(std::string_view a, std::string_view b) {
  const size_t columns = b.size() + 1;
  std::vector<size_t> before(columns), last(columns), now(columns);
  for (size_t j = 0; j < columns; ++j) last[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (size_t j = 1; j < columns; ++j) {
      const bool same = lower(a[i - 1]) == lower(b[j - 1]);
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                           lower(a[i - 2]) == lower(b[j - 1]);
      if (swapped) now[j] = std::min(now[j], before[j - 2] + 1);
    }
    std::swap(before, last);
    std::swap(last, now);
  }
  return last[b.size()];
}

size_t pattern_distance(std::string_view text, std::string_view pattern) {
  const size_t columns = text.size() + 1;
  std::vector<size_t> last(columns), now(columns);  // of the pattern so far and text[0, j)
  for (size_t j = 0; j < columns; ++j) last[j] = j;
  for (const char c : pattern) {
    now[0] = last[0] + (c == '*' ? 0 : 1);
    for (size_t j = 1; j < columns; ++j) {
      const char t = text[j - 1];
      const bool digit = t >= '0' && t <= '9';
      const bool fits = c == '?' || (c == '#' && digit) || lower(c) == lower(t);
      const bool free = c == '*' || (c == '#' && digit);
      now[j] = std::min({last[j] + (c == '*' ? 0 : 1), last[j - 1] + (fits ? 0 : 1),
                         now[j - 1] + (free ? 0 : 1)});
    }
    std::swap(last, now);
  }
  return last[text.size()];
}

std::string_view nearest_name(std::string_view word, std::span<const std::string_view> names) {
  if (word.empty() || word.size() > kLongest) return {};
  // A third of the word may be wrong, and always one letter.
  size_t best = std::max<size_t>(1, word.size() / 3) + 1;
  std::string_view found;
  for (const std::string_view name : names) {
    if (name.size() > kLongest) continue;
    const size_t distance = edit_distance(word, name);
    if (distance < best && distance < name.size()) {
      best = distance;
      found = name;
    }
  }
  if (!found.empty()) return found;
  // A name cut short or drawn out is meant as well: "swi" for "swiglu", "attention_heads" for
  // "heads".
  for (const std::string_view name : names) {
    const bool part = word.size() >= 3 && name.size() >= 3 &&
                      (name.find(word) != name.npos || word.find(name) != word.npos);
    if (part) return name;
  }
  return {};
}

std::string suggestion(std::string_view word, std::span<const std::string_view> names) {
  if (names.empty()) return {};
  const std::string_view near = nearest_name(word, names);
  if (!near.empty()) return format("; did you mean '{}'?", near);
  std::string list;
  for (const std::string_view name : names) {
    list += list.empty() ? "; known: " : ", ";
    list += name;
  }
  return list;
}

}  // namespace braid
