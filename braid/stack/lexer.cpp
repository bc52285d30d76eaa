#include "braid/stack/lexer.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

// Characters of the source line shown on either side of the caret.
constexpr int kShown = 60;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }
bool is_value_char(char c) {
  return is_letter(c) || is_digit(c) || c == '.' || c == '+' || c == '-' || c == '/' || c == ':';
}
bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
// The second and later bytes of a UTF-8 character.
bool continues(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

void StackLexer::skip_blank() {
  while (at_ < text_.size()) {
    if (text_[at_] == '#') {
      at_ = std::min(text_.find('\n', at_), text_.size());
    } else if (is_blank(text_[at_])) {
      ++at_;
    } else {
      return;
    }
  }
}

StackToken StackLexer::scan() {
  skip_blank();
  const size_t start = at_;
  if (start == text_.size()) return {StackToken::Kind::kEnd, {}, start};
  StackToken::Kind kind = StackToken::Kind::kSign;
  size_t end = start + 1;
  if (is_digit(text_[start])) {
    kind = StackToken::Kind::kInt;
    while (end < text_.size() && is_digit(text_[end])) ++end;
  } else if (is_letter(text_[start])) {
    kind = StackToken::Kind::kName;
    while (end < text_.size() && (is_letter(text_[end]) || is_digit(text_[end]))) ++end;
  } else {
    while (end < text_.size() && continues(text_[end])) ++end;
  }
  at_ = end;
  return {kind, text_.substr(start, end - start), start};
}

const StackToken& StackLexer::peek() {
  if (!peeked_) token_ = scan();
  peeked_ = true;
  return token_;
}

StackToken StackLexer::next() {
  const StackToken token = peek();
  peeked_ = false;
  return token;
}

StackToken StackLexer::value() {
  BRAID_CHECK(!peeked_);
  skip_blank();
  const size_t start = at_;
  while (at_ < text_.size() && is_value_char(text_[at_])) ++at_;
  return {StackToken::Kind::kName, text_.substr(start, at_ - start), start};
}

bool is_stack_key(std::string_view text) {
  return !text.empty() && is_letter(text[0]) &&
         std::all_of(text.begin(), text.end(), [](char c) { return is_letter(c) || is_digit(c); });
}

bool is_stack_name(std::string_view text) {
  return is_stack_key(text) && text != "x" && text != "loop";
}

bool is_stack_value(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), is_value_char);
}

TextPlace place_in(std::string_view text, size_t at) {
  TextPlace place;
  for (const char c : text.substr(0, at)) {
    if (c == '\n') {
      ++place.line;
      place.column = 1;
    } else if (!continues(c)) {
      ++place.column;
    }
  }
  return place;
}

void stack_error(std::string_view text, size_t at, std::string_view message) {
  const TextPlace place = place_in(text, at);
  const size_t newline = text.substr(0, at).rfind('\n');
  const size_t begin = newline == text.npos ? 0 : newline + 1;
  const size_t end = std::min(text.find('\n', begin), text.size());
  // One printed character for each character of the source, so that the caret stands under the
  // right one.
  std::string line = printable(text.substr(begin, end - begin), text.npos);
  const size_t caret = static_cast<size_t>(place.column) - 1;
  const size_t cut = caret > kShown ? caret - kShown : 0;
  line = line.substr(std::min(cut, line.size()), 2 * kShown);
  throw Error(ErrorKind::kUsage, format("stack {}:{}: {}\n  {}\n  {}^", place.line, place.column,
                                        message, line, std::string(caret - cut, ' ')));
}

}  // namespace braid
