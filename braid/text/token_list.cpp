#include "braid/text/token_list.h"

#include <algorithm>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {

std::vector<int32_t> read_ids(std::string_view text, std::string_view from) {
  constexpr std::string_view kBetween = " \t\r\n,;[]";
  std::vector<int32_t> ids;
  for (size_t at = 0; (at = text.find_first_not_of(kBetween, at)) != text.npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    const std::string_view word = text.substr(at, end - at);
    const std::optional<int64_t> id = parse_int(word);
    if (!id.has_value() || *id < 0 || *id > INT32_MAX) {
      throw Error(ErrorKind::kUsage,
                  format("{} holds '{}', which is no token id", from, printable(word, 20)));
    }
    ids.push_back(static_cast<int32_t>(*id));
    at = end;
  }
  return ids;
}

std::vector<int32_t> read_tokens(std::string_view text, std::string_view from, int64_t vocab) {
  constexpr size_t kMostTokens = size_t{1} << 22;
  std::vector<int32_t> ids = read_ids(text, from);
  for (const int32_t id : ids) {
    if (id >= vocab)
      throw Error(ErrorKind::kUsage,
                  format("token {} of {} is not below the vocabulary of {}", id, from, vocab));
  }
  if (ids.empty()) throw Error(ErrorKind::kUsage, format("{} holds no tokens", from));
  if (ids.size() > kMostTokens)
    throw Error(ErrorKind::kUsage, format("{} holds more than {} tokens", from, kMostTokens));
  return ids;
}

}  // namespace braid
