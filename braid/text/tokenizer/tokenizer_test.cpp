#include "braid/text/tokenizer/tokenizer.h"

#include <doctest/doctest.h>

namespace braid {
namespace {

TEST_CASE("bytes: ids are the bytes, and decoding repairs what is no UTF-8") {
  const auto t = byte_tokenizer();
  std::string all;
  for (int i = 0; i < 256; ++i) all += static_cast<char>(i);
  const std::vector<int32_t> ids = t->encode(all);
  REQUIRE(ids.size() == 256);
  for (int i = 0; i < 256; ++i) CHECK(ids[static_cast<size_t>(i)] == i);
  CHECK(t->decode_bytes(ids) == all);
  CHECK(t->decode(t->encode("a\xE4\xB8z\xFF\xE4\xB8")) == "a\xEF\xBF\xBDz\xEF\xBF\xBD\xEF\xBF\xBD");
  CHECK(t->token_to_id("<0x0A>") == 10);
  CHECK_FALSE(t->token_to_id("<0x0a>").has_value());
  CHECK(t->id_to_token(10) == "<0x0A>");
  CHECK_FALSE(t->id_to_token(256).has_value());
}

TEST_CASE("bytes: a stream never splits a code point") {
  const auto t = byte_tokenizer();
  StreamDecoder stream(*t);
  CHECK(stream.push(0xE4).empty());
  CHECK(stream.push(0xB8).empty());
  CHECK(stream.push(0xAD) == "\xE4\xB8\xAD");
  CHECK(stream.push(0xE4).empty());
  CHECK(stream.finish() == "\xEF\xBF\xBD");
}

}  // namespace
}  // namespace braid
