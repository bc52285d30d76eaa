#include "braid/text/token_list.h"

#include <algorithm>
#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {

constexpr size_t kMostTokens = size_t{1} << 22;

std::vector<int32_t> read_tokens(std::string_view text, const std::string& from, int64_t vocab) {
  std::vector<int32_t> ids;
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && digit(text[end])) ++end;
    if (end == at) {
      if (std::string_view(" \t\r\n,;[]").find(text[at]) == std::string_view::npos)
        throw Error(ErrorKind::kUsage, format("{} holds \"{}\", which is not a token", from,
                                              printable(text.substr(at, 20))));
      ++at;
      continue;
    }
    const std::optional<int64_t> id = parse_int(text.substr(at, end - at));
    if (!id || *id >= vocab)
      throw Error(ErrorKind::kUsage, format("token {} of {} is not below the vocabulary of {}",
                                            text.substr(at, end - at), from, vocab));
    ids.push_back(static_cast<int32_t>(*id));
    if (ids.size() > kMostTokens)
      throw Error(ErrorKind::kUsage, format("{} holds more than {} tokens", from, kMostTokens));
    at = end;
  }
  if (ids.empty()) throw Error(ErrorKind::kUsage, format("{} holds no tokens", from));
  return ids;
}

std::vector<int32_t> read_ids(std::string_view text) {
  constexpr std::string_view kBetween = " \t\r\n,;[]";
  std::vector<int32_t> ids;
  for (size_t at = 0; (at = text.find_first_not_of(kBetween, at)) != text.npos;) {
    const size_t end = std::min(text.find_first_of(kBetween, at), text.size());
    const std::optional<int64_t> id = parse_int(text.substr(at, end - at));
    if (!id.has_value() || *id < 0 || *id > INT32_MAX) {
      throw Error(ErrorKind::kUsage,
                  format("'{}' is no token id", printable(text.substr(at, end - at))));
    }
    ids.push_back(static_cast<int32_t>(*id));
    at = end;
  }
  return ids;
}

}  // namespace braid
