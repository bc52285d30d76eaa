#include "braid/text/tokenizer/tiktoken.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/base64.h"
#include "braid/text/tokenizer/byte_bpe.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/known_regexes.h"
#include "braid/text/tokenizer/tokenizer_config.h"

namespace braid {
namespace {

// Ids after the ranks that belong to special tokens, named or not. (Kimi's own code spells two
// more, which have no row in its models.)
constexpr int32_t kReserved = 256;

struct Ranks {
  Vocabulary vocabulary;
  std::vector<int32_t> ranks;
};

void add_line(std::string_view line, int64_t number, Ranks& out) {
  const size_t space = line.find(' ');
  const std::optional<std::string> bytes =
      space == line.npos ? std::nullopt : decode_base64(line.substr(0, space));
  const std::optional<int64_t> rank =
      space == line.npos ? std::nullopt : parse_int(line.substr(space + 1));
  if (!bytes.has_value() || bytes->empty() || !rank.has_value() || *rank < 0) {
    throw Error(ErrorKind::kBadInput,
                format("line {} is '{}'; it must be base64 and a rank", number, printable(line)));
  }
  const std::string token = map_bytes(*bytes);
  if (out.vocabulary.find(token) >= 0) {
    throw Error(ErrorKind::kBadInput,
                format("line {}: the token '{}' is there already with rank {}", number,
                       printable(token), out.vocabulary.find(token)));
  }
  out.vocabulary.add(*rank, token);
}

Ranks parse_ranks(std::string_view model) {
  Ranks out;
  int64_t number = 0;
  while (!model.empty()) {
    const size_t end = std::min(model.find('\n'), model.size());
    std::string_view line = model.substr(0, end);
    model.remove_prefix(std::min(end + 1, model.size()));
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (!line.empty()) add_line(line, number, out);
  }
  if (out.vocabulary.count() == 0) throw Error(ErrorKind::kBadInput, "no tokens");
  for (const std::string& byte : byte_characters()) {
    if (out.vocabulary.find(byte) >= 0) continue;
    throw Error(ErrorKind::kBadInput, "not all 256 bytes are tokens");
  }
  for (int32_t id = 0; id < out.vocabulary.size(); ++id) out.ranks.push_back(id);
  return out;
}

}  // namespace

std::shared_ptr<const Tokenizer> parse_tiktoken(std::string_view model, std::string_view config) {
  Ranks ranks = parse_ranks(model);
  const std::vector<BpeMerge> merges = merges_of_ranks(ranks.vocabulary, ranks.ranks);
  const int32_t base = ranks.vocabulary.size();
  // Kimi is the only family that ships such a file without a tokenizer.json.
  PipelineParts parts = byte_bpe_parts(std::move(ranks.vocabulary), merges, {kKimiRegex},
                                       RegexSyntax::kRust, /*ignore_merges=*/true);
  parts.added = config_added_tokens(config);
  std::vector<bool> named(kReserved);
  for (const AddedToken& t : parts.added) {
    if (t.id >= base && t.id < base + kReserved) named[static_cast<size_t>(t.id - base)] = true;
  }
  for (int32_t i = 0; i < kReserved; ++i) {
    if (named[static_cast<size_t>(i)]) continue;
    AddedToken t;
    t.id = base + i;
    t.content = format("<|reserved_token_{}|>", t.id);
    t.special = true;
    parts.added.push_back(std::move(t));
  }
  return finish_with_config(std::move(parts), config);
}

}  // namespace braid
