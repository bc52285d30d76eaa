// A vocabulary as GGUF metadata holds it, its lists made of the input: it is a tokenizer, or throws
// braid::Error(kBadInput). As tokenizer.json it is refused alike, or encodes alike.

#include <cstddef>
#include <cstdint>
#include <iterator>

#include "braid/base/error.h"
#include "braid/testing/fuzz_edit.h"
#include "braid/testing/fuzz_expect.h"
#include "braid/text/tokenizer/byte_map.h"
#include "braid/text/tokenizer/gguf_vocabulary.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {
namespace {

constexpr const char* kPres[] = {"", "gpt-2", "llama-bpe", "qwen2", "deepseek-v3", "tekken", "?"};
constexpr std::string_view kText = "The a b aab  \xE4\xB8\x96\n12 <s>x</s> 'll ";

// A few bytes, or more of them; "llama" has its spaces as U+2581.
std::string word(testing::FuzzInput& in) {
  const size_t n = in.byte();
  std::string text = in.text(n % 8);
  if (n >= 224) text.insert(0, "\xE2\x96\x81");
  return text;
}

std::optional<int32_t> id(testing::FuzzInput& in) {
  const uint8_t n = in.byte();
  return n < 128 ? std::optional<int32_t>(n) : std::nullopt;
}

GgufVocabulary vocabulary(testing::FuzzInput& in) {
  GgufVocabulary v;
  const uint8_t kind = in.byte();
  const bool llama = kind % 2 == 1;
  v.model = llama ? "llama" : "gpt2";
  v.pre = kPres[kind / 2 % std::size(kPres)];
  if (kind >= 64) {  // the bytes must be there
    for (int b = 0; b < 256; ++b) {
      constexpr char kHex[] = "0123456789ABCDEF";
      v.tokens.push_back(llama ? std::string("<0x") + kHex[b / 16] + kHex[b % 16] + ">"
                               : std::string(byte_characters()[static_cast<size_t>(b)]));
      v.types.push_back(llama ? kByte : kNormal);
    }
  }
  v.bos = id(in), v.eos = id(in), v.unk = id(in), v.pad = id(in);
  const uint8_t flags = in.byte();
  if ((flags & 1) != 0) v.add_bos = (flags & 2) != 0;
  if ((flags & 4) != 0) v.add_eos = (flags & 8) != 0;
  if ((flags & 16) != 0) v.add_space_prefix = (flags & 32) != 0;
  const size_t tokens = in.byte() % 64;
  for (size_t i = 0; i < tokens; ++i) {
    v.tokens.push_back(word(in));
    v.types.push_back(in.byte() % 8);
  }
  if (!llama) {
    while (!in.empty()) v.merges.push_back(word(in) + ' ' + word(in));
    return v;
  }
  for (size_t i = 0; i < v.tokens.size(); ++i)
    v.scores.push_back(static_cast<float>(in.number()) / 8);
  return v;
}

void encode(const GgufVocabulary& v) {
  const auto tokenizer = tokenizer_from_gguf(v);
  const std::vector<int32_t> ids = tokenizer->encode(kText);
  for (const int32_t id : ids) BRAID_CHECK(id >= 0 && id < tokenizer->vocab_size());
  const std::string text = tokenizer->decode(ids);
  StreamDecoder stream(*tokenizer, false);
  std::string streamed;
  for (const int32_t id : ids) streamed += stream.push(id);
  BRAID_CHECK(streamed + stream.finish() == text);
  TokenizerFiles files;
  try {
    files = tokenizer_files_of_gguf(v, {});
  } catch (const Error& e) {
    testing::expect(e);
    return;
  }
  const auto again = parse_tokenizer_json(files.tokenizer, files.config);
  BRAID_CHECK(again->encode(kText) == ids);
}

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  braid::testing::FuzzInput input(data, size);
  try {
    braid::encode(braid::vocabulary(input));
  } catch (const braid::Error& e) {
    braid::testing::expect(e);
  }
  return 0;
}
