#pragma once
// Template text to tokens, with the white space rules of the environment chat templates run in:
// trim_blocks, lstrip_blocks, no trailing newline, "-" and "+" at tags.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace braid::jinja {

struct Position {
  int line = 1;
  int column = 1;  // in bytes
};

struct Token {
  enum class Kind {
    kData,
    kBlockBegin,
    kBlockEnd,
    kVariableBegin,
    kVariableEnd,
    kName,
    kString,
    kInt,
    kReal,
    kSign,  // operators and punctuation, in `text`
    kEnd
  };
  Kind kind = Kind::kEnd;
  Position where;
  std::string text;  // of strings: escapes resolved
  int64_t whole = 0;
  double real = 0;
};

// Throws Error(kBadInput) "SOURCE:LINE:COLUMN: ...".
std::vector<Token> tokenize(std::string_view text, const std::string& source);

[[noreturn]] void fail_at(const std::string& source, Position where, const std::string& message);

}  // namespace braid::jinja
