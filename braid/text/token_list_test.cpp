#include "braid/text/token_list.h"

#include <doctest/doctest.h>

#include <string>

#include "braid/base/error.h"

namespace braid {
namespace {

TEST_CASE("token ids are read however they are set apart") {
  const std::vector<int32_t> ids = {1, 20, 300};
  for (const char* text : {"1,20,300", "[1, 20, 300]", "1\n20\r\n300\n", " 1;20\t300 "}) {
    CAPTURE(text);
    CHECK(read_ids(text, "x") == ids);
    CHECK(read_tokens(text, "x", 301) == ids);
  }
  CHECK(read_ids(" \n", "x").empty());
}

TEST_CASE("what is no list of token ids is refused with the place and the word") {
  const auto refused = [](const std::string& text, const char* message) {
    CAPTURE(text);
    CHECK_THROWS_WITH_AS(read_tokens(text, "ids.txt", 301), message, Error);
  };
  refused("1, two", "ids.txt holds 'two', which is no token id");
  refused("1, 2x", "ids.txt holds '2x', which is no token id");
  refused("-1", "ids.txt holds '-1', which is no token id");
  refused("99999999999999999999", "ids.txt holds '99999999999999999999', which is no token id");
  refused("5 301", "token 301 of ids.txt is not below the vocabulary of 301");
  refused("[]", "ids.txt holds no tokens");
  std::string many;
  for (int i = 0; i <= 1 << 22; ++i) many += "7 ";
  refused(many, "ids.txt holds more than 4194304 tokens");
}

}  // namespace
}  // namespace braid
