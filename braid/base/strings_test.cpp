#include "braid/base/strings.h"

#include <doctest/doctest.h>

namespace braid {
namespace {

TEST_CASE("strings: numbers are read whole or not at all") {
  CHECK(parse_int("-9223372036854775808") == INT64_MIN);
  CHECK(parse_int("007") == 7);
  for (const char* bad : {"", " 1", "1 ", "+1", "1.0", "0x1", "9223372036854775808", "-"}) {
    CAPTURE(bad);
    CHECK(!parse_int(bad));
  }
  CHECK(parse_real("1e-6") == 1e-6);
  CHECK(parse_real("-3") == -3.0);
  CHECK(parse_real(".5") == 0.5);
  for (const char* bad : {"", "nan", "-inf", "infinity", "1e999", "1,5", "1f", "+1"}) {
    CAPTURE(bad);
    CHECK(!parse_real(bad));
  }
  CHECK(parse_bool("true") == true);
  CHECK(parse_bool("false") == false);
  CHECK(!parse_bool("1"));
}

TEST_CASE("strings: the shortest text reads back the same") {
  for (const double value : {0.1, 1e-6, 1.0 / 3, 10000.0, -5.0, 1e300, 5e-324}) {
    CHECK(parse_real(shortest_text(value)) == value);
  }
  CHECK(shortest_text(0.1) == "0.1");
  CHECK(shortest_text(-5) == "-5");
}

TEST_CASE("strings: pieces between separators, empty ones too") {
  using Pieces = std::vector<std::string_view>;
  CHECK(split("a:bc::d", ':') == Pieces{"a", "bc", "", "d"});
  CHECK(split(",a,", ',') == Pieces{"", "a", ""});
  CHECK(split("abc", ',') == Pieces{"abc"});
  CHECK(split("", ',') == Pieces{""});
}

TEST_CASE("strings: patterns with stars and question marks") {
  const char* name = "layers.12.dsa.indexer.wk.weight";
  for (const char* fits : {"*", "*.indexer.*", "layers.??.dsa*", name, "*weight", "layers.*.weight",
                           "l*a*y*e*r*s*weight", "**", "layers.#.dsa*", "layers.#2.*"}) {
    CAPTURE(fits);
    CHECK(matches_pattern(name, fits));
  }
  for (const char* misses : {"", "indexer", "*.indexer", "layers.?.dsa*", "#*", "layers.12#.*",
                             "layers.##.#", "*bias", "Layers*"}) {
    CAPTURE(misses);
    CHECK(!matches_pattern(name, misses));
  }
  CHECK(matches_pattern("", "*"));
  CHECK(!matches_pattern("", "?"));
  CHECK(matches_pattern("aab", "*ab"));
  CHECK(!matches_pattern(std::string(1000, 'a'), "*a*a*a*a*a*a*a*a*a*b"));  // at once
}

TEST_CASE("strings: what is printed in messages is plain and short") {
  CHECK(printable("a\n\x1B[31m\xC3\xA9z") == "a??[31m?z");
  CHECK(printable("abcdef", 3) == "abc...");
  CHECK(printable("abc", 3) == "abc");
}

}  // namespace
}  // namespace braid
