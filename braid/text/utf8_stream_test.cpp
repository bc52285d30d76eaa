#include "braid/text/utf8_stream.h"

#include <doctest/doctest.h>

namespace braid {

TEST_CASE("code points are never split and invalid bytes are replaced") {
  TextStream s;
  CHECK(s.push("a\xE2") == "a");
  CHECK(s.push("\x82") == "");
  CHECK(s.push("\xAC") == "\xE2\x82\xAC");
  CHECK(s.push("\xFFz") == "\xEF\xBF\xBDz");
  CHECK(s.push("\xC3") == "");
  CHECK(s.finish() == "\xEF\xBF\xBD");
}

TEST_CASE("overlong forms and surrogates are invalid") {
  TextStream s;
  CHECK(s.push("\xC0\xAF").find('/') == std::string::npos);
  TextStream t;
  CHECK(t.push("\xED\xA0\x80 ") == "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD ");
}

TEST_CASE("a stop string is not shown, whatever its cuts") {
  for (size_t cut = 0; cut < 9; ++cut) {
    const std::string text = "one\n\ntwo";
    TextStream s({"\n\n"});
    std::string got = s.push(text.substr(0, cut));
    got += s.push(text.substr(cut));
    got += s.finish();
    CHECK(got == "one");
    CHECK(s.stopped());
  }
  TextStream s({"END"});
  CHECK(s.push("aEN") == "a");
  CHECK(s.finish() == "EN");
}

}  // namespace braid
