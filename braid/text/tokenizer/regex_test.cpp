#include "braid/text/tokenizer/regex.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/text/tokenizer/known_regexes.h"

namespace braid {
namespace {

std::vector<std::string> found(const Regex& regex, std::string_view text) {
  Regex::Scratch scratch;
  std::vector<Range> ranges;
  regex.find_all(text, scratch, ranges);
  std::vector<std::string> all;
  for (const Range& r : ranges) all.emplace_back(text.substr(r.begin, r.size()));
  return all;
}

using Texts = std::vector<std::string>;

TEST_CASE("Ruby's dialect") {
  CHECK(found(Regex("\\d{1,3}+"), "a1234567b") == Texts{"1234567"});
  CHECK(found(Regex("(?:ab){2}+"), "ababababab") == Texts{"abababab"});
  CHECK(found(Regex("\\h+"), "xyz 09G") == Texts{"09"});
  CHECK(found(Regex("^b|c$"), "a\nb\nc\nd b c") == Texts{"b", "c", "c"});
  CHECK(found(Regex("(?m:a.b)"), "a\nb") == Texts{"a\nb"});
  CHECK(found(Regex("[\\p{L}&&[^a-c]]+"), "abcdefabcxyz") == Texts{"def", "xyz"});
  CHECK(found(Regex("[^a-z&&[^x]]+"), "abxc1") == Texts{"x", "1"});
  CHECK(found(Regex("[a[b-c]]+"), "abcdef[a]bc") == Texts{"abc", "a", "bc"});
  CHECK(found(Regex("[^\\S\n]+"), "a \t\n b") == Texts{" \t", " "});
  CHECK(found(Regex("\\p{Letter}+"), "ab1") == Texts{"ab"});
  CHECK(found(Regex("\\u0041+"), "xAA") == Texts{"AA"});
}

TEST_CASE("white space is Unicode's, and a long s is an s") {
  CHECK(found(Regex("\\s"),
              "a\xE1\xA0\x8E"
              "b\xC2\xA0\xE3\x80\x80\xC2\x85") == Texts{"\xC2\xA0", "\xE3\x80\x80", "\xC2\x85"});
  CHECK(found(Regex("(?i:'s|'t)"), "'S '\xC5\xBF 't") == Texts{"'S", "'\xC5\xBF", "'t"});
}

TEST_CASE("empty matches, and bytes that are no UTF-8") {
  CHECK(found(Regex("x*"), "axxbc") == Texts{"", "xx", "", ""});
  CHECK(found(Regex("\\p{L}+"),
              "ab\xFF"
              "c\xE4\xB8") == Texts{"ab", "c"});
  CHECK(found(Regex::literal("aa"), "aaaaa") == Texts{"aa", "aa"});
  CHECK(found(Regex::literal("\xFF"), "a\xFF").size() == 1);
}

TEST_CASE("Kimi's pattern keeps Han characters apart") {
  const Regex kimi(kKimiRegex, RegexSyntax::kRust);
  CHECK(found(kimi, "Hello\xE4\xBD\xA0\xE5\xA5\xBDworld it's 12345") ==
        Texts{"Hello", "\xE4\xBD\xA0\xE5\xA5\xBD", "world", " it's", " ", "123", "45"});
}

TEST_CASE("long texts neither overflow nor crawl") {
  const std::string spaces(3'000'000, ' '), letters(3'000'000, 'a');
  for (const std::string_view pattern : {kGpt2Regex, kLlama3Regex, kO200kRegex, kDeepseek3Regex}) {
    CHECK(found(Regex(pattern), spaces).size() == 1);
    CHECK(found(Regex(pattern), letters).size() == 1);
  }
}

TEST_CASE("patterns that cannot be compiled say where") {
  for (const char* pattern : {"(", "[a", "a\\", "\\p{Nonsense}", "[z-a]", "[[[["}) {
    CAPTURE(pattern);
    CHECK_THROWS_AS(Regex{pattern}, Error);
  }
  // An exponential search ends in an error, not in a hang.
  Regex::Scratch scratch;
  std::vector<Range> ranges;
  const Regex slow("(a+)+(a+)+y");
  CHECK_THROWS_AS(slow.find_all(std::string(60, 'a') + "by", scratch, ranges), Error);
}

}  // namespace
}  // namespace braid
