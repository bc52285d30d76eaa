// What the parser of the command line refuses, in words of the flag that was typed.

#include "tests/braid_process.h"

namespace braid::e2e {
namespace {

void check_said(const Args& args, const std::string& words) {
  const Outcome o = braid(args);
  INFO(o.all());
  CHECK(o.code == 2);
  CHECK(o.out.empty());
  CHECK(o.err.starts_with("braid: " + words));
}

}  // namespace

TEST_CASE("a flag without its value says what it takes") {
  check_said({"generate", "-m", "x", "-n"},
             "--max-tokens needs a value, a whole number in the range 0 to 1099511627776; see ");
  check_said({"generate", "--model"}, "--model needs a value; see ");
  check_said({"generate", "-m", "x", "--temp"}, "--temp needs a value, a number; see ");
  check_said({"generate", "-m", "x", "--weights"}, "--weights needs a value, one of f32,bf16,");
}

TEST_CASE("a flag that was given twice is named") {
  check_said({"generate", "-m", "x", "-m", "y"}, "--model was given twice; see ");
  check_said({"generate", "-m", "x", "-m", "y", "-m", "z"}, "--model was given 3 times; see ");
}

TEST_CASE("a word too many is named, and a stack that was split is to be quoted") {
  check_said({"generate", "-m", "x", "word"}, "unexpected word \"word\"; see ");
  check_said({"train", "--stack", "kda,", "swiglu", "--data", "x", "--out", "y"},
             "unexpected word \"swiglu\"; a stack is one word: quote it, as in ");
  check_said({"plan", "2", "x", "(kda,", "swiglu)"},
             "unexpected word \"x\"; a stack is one word: quote it, as in ");
}

TEST_CASE("a seed below 0 is refused") {
  const std::string words = "is \"-3\"; it must be a number in the range 0 to 18446744073709551615";
  check_said({"generate", "-m", "x", "--seed", "-3"}, "--seed " + words);
  check_said({"train", "--data", "x", "--out", "y", "--seed", "-3"}, "--seed " + words);
  check_said({"convert", "-m", "x", "-o", "y", "--random", "-3"}, "--random " + words);
}

}  // namespace braid::e2e
