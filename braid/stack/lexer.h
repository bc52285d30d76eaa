#pragma once
// Tokens of a stack expression, and the error that points into its text.

#include <string>
#include <string_view>

namespace braid {

struct StackToken {
  enum class Kind { kInt, kName, kSign, kEnd };
  Kind kind = Kind::kEnd;
  std::string_view text;  // one character for kSign, empty for kEnd
  size_t at = 0;          // byte offset
  bool is(char sign) const { return kind == Kind::kSign && text[0] == sign; }
  bool is(std::string_view name) const { return kind == Kind::kName && text == name; }
};

class StackLexer {
 public:
  explicit StackLexer(std::string_view text) : text_(text) {}
  std::string_view text() const { return text_; }
  const StackToken& peek();
  StackToken next();
  // The bare word behind a '='; empty where none stands there. Only valid when nothing has been
  // peeked.
  StackToken value();

 private:
  void skip_blank();
  StackToken scan();
  std::string_view text_;
  size_t at_ = 0;
  bool peeked_ = false;
  StackToken token_;
};

bool is_stack_name(std::string_view text);  // of a layer: not a reserved word
bool is_stack_key(std::string_view text);
bool is_stack_value(std::string_view text);

struct TextPlace {
  int line = 1;
  int column = 1;  // in characters, not bytes
};
TextPlace place_in(std::string_view text, size_t at);

// Throws Error(kUsage): "stack 1:14: MESSAGE", the line, and a caret under byte `at`.
[[noreturn]] void stack_error(std::string_view text, size_t at, std::string_view message);

}  // namespace braid
