// Any bytes are token ids of the vocabulary, which read back when they are written one a line, or
// throw braid::Error(kUsage). What both readers take, they take alike.

#include <cstddef>
#include <cstdint>
#include <optional>

#include "braid/base/error.h"
#include "braid/testing/fuzz_expect.h"
#include "braid/text/token_list.h"

namespace {

template <typename Read>
std::optional<std::vector<int32_t>> ids_of(Read read) {
  try {
    return read();
  } catch (const braid::Error& e) {
    braid::testing::expect(e, {braid::ErrorKind::kUsage});
    return std::nullopt;
  }
}

std::string lines(const std::vector<int32_t>& ids) {
  std::string out;
  for (const int32_t id : ids) out += std::to_string(id) + '\n';
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  constexpr int64_t kVocab = 5000;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto tokens = ids_of([&] { return braid::read_tokens(text, "fuzz", kVocab); });
  const auto any = ids_of([&] { return braid::read_ids(text, "fuzz"); });
  if (tokens) {
    BRAID_CHECK(!tokens->empty());
    for (const int32_t id : *tokens) BRAID_CHECK(id >= 0 && id < kVocab);
    BRAID_CHECK(braid::read_tokens(lines(*tokens), "fuzz", kVocab) == *tokens);
  }
  if (any) {
    for (const int32_t id : *any) BRAID_CHECK(id >= 0);
    BRAID_CHECK(braid::read_ids(lines(*any), "fuzz") == *any);
  }
  if (tokens && any) BRAID_CHECK(*tokens == *any);
  return 0;
}
