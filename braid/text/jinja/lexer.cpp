#include "braid/text/jinja/lexer.h"

#include <optional>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {
namespace {

// Template data keeps one kind of newline, and a newline at the very end is dropped.
std::string normalized(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r') {
      out += '\n';
      if (i + 1 < text.size() && text[i + 1] == '\n') ++i;
    } else {
      out += text[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

bool is_name_start(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         static_cast<unsigned char>(c) >= 0x80;
}
bool is_decimal(char c) { return c >= '0' && c <= '9'; }
bool is_name_part(char c) { return is_name_start(c) || is_decimal(c); }
int hex_value(char c) {
  if (is_decimal(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

class Lexer {
 public:
  Lexer(std::string_view text, const std::string& source)
      : text_(normalized(text)), source_(source) {}
  std::vector<Token> run();

 private:
  [[noreturn]] void fail_here(const std::string& message) { fail_at(source_, where_, message); }
  std::string_view rest() const { return std::string_view(text_).substr(at_); }
  bool ahead(std::string_view s) const { return rest().starts_with(s); }
  void advance(size_t bytes);
  void skip_spaces();
  void push(Token::Kind kind, std::string text = {});
  void data_until(size_t end, char sign, bool block);
  void comment();
  void end_of_tag(size_t bytes, char sign);
  bool raw();
  std::optional<size_t> raw_tag(size_t at, std::string_view word, char& before, char& after) const;
  void tag(bool block);
  bool tag_end(bool block);
  void sign();
  void number();
  void set_number(Token& token, const std::string& plain, unsigned base);
  void string();
  void escape(std::string& out);
  uint32_t hex_digits(size_t count);

  const std::string text_;
  const std::string& source_;
  size_t at_ = 0;
  Position where_;
  bool line_starting_ = true;  // the last tag ended with a newline, or none came yet
  std::string open_;           // brackets waiting for their ends
  std::vector<Token> tokens_;
};

void Lexer::advance(size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    if (text_[at_ + i] == '\n') {
      ++where_.line;
      where_.column = 1;
    } else {
      ++where_.column;
    }
  }
  at_ += bytes;
}

void Lexer::skip_spaces() {
  while (at_ < text_.size()) {
    const size_t bytes = character_bytes(text_, at_);
    if (!is_space(code_point(rest().substr(0, bytes)))) break;
    advance(bytes);
  }
}

void Lexer::push(Token::Kind kind, std::string text) {
  Token token;
  token.kind = kind;
  token.where = where_;
  token.text = std::move(text);
  tokens_.push_back(std::move(token));
}

// Text up to a tag at `end`; `sign` is what follows the tag's first two characters.
void Lexer::data_until(size_t end, char sign, bool block) {
  std::string_view data = std::string_view(text_).substr(at_, end - at_);
  const size_t whole = data.size();
  if (sign == '-') {
    data = strip(data, false, true);
  } else if (sign != '+' && block) {
    const size_t line = data.rfind('\n') + 1;  // 0 where there is none
    if ((line > 0 || line_starting_) && strip(data.substr(line), true, true).empty()) {
      data = data.substr(0, line);
    }
  }
  if (!data.empty()) push(Token::Kind::kData, std::string(data));
  advance(whole);
}

// Behind a block or comment tag, whose last sign and `bytes` of text stand here.
void Lexer::end_of_tag(size_t bytes, char sign) {
  const size_t before = at_;
  advance(bytes);
  if (sign == '-') {
    skip_spaces();
  } else if (sign != '+' && ahead("\n")) {
    advance(1);
  }
  line_starting_ = at_ > before && text_[at_ - 1] == '\n';
}

void Lexer::comment() {
  size_t body = at_ + 2;
  if (body < text_.size() && (text_[body] == '-' || text_[body] == '+')) ++body;
  const size_t end = text_.find("#}", body);
  if (end == std::string::npos) fail_here("a comment '{#' has no end");
  const char sign = end > body ? text_[end - 1] : ' ';
  const size_t bytes = end + 2 - at_;
  end_of_tag(bytes, sign);
}

// Bytes of "{%- raw -%}" at `at`, or nothing.
std::optional<size_t> Lexer::raw_tag(size_t at, std::string_view word, char& before,
                                     char& after) const {
  const auto is_blank = [&](size_t i) {
    return i < text_.size() && is_space(static_cast<unsigned char>(text_[i]));
  };
  size_t i = at + 2;
  before = i < text_.size() && (text_[i] == '-' || text_[i] == '+') ? text_[i++] : ' ';
  while (is_blank(i)) ++i;
  if (text_.compare(i, word.size(), word) != 0) return {};
  i += word.size();
  while (is_blank(i)) ++i;
  after = i < text_.size() && (text_[i] == '-' || text_[i] == '+') ? text_[i++] : ' ';
  if (text_.compare(i, 2, "%}") != 0) return {};
  return i + 2 - at;
}

bool Lexer::raw() {
  char before = 0, after = 0;
  const auto begin = raw_tag(at_, "raw", before, after);
  if (!begin) return false;
  const Position start = where_;
  advance(*begin);
  if (after == '-') skip_spaces();
  line_starting_ = text_[at_ - 1] == '\n';
  for (size_t end = text_.find("{%", at_); end != std::string::npos;
       end = text_.find("{%", end + 2)) {
    if (const auto bytes = raw_tag(end, "endraw", before, after)) {
      data_until(end, before, true);
      end_of_tag(*bytes, after);
      return true;
    }
  }
  fail_at(source_, start, "'{% raw %}' has no '{% endraw %}'");
}

bool Lexer::tag_end(bool block) {
  const std::string_view close = block ? "%}" : "}}";
  char sign = ' ';
  if (ahead("-") && rest().substr(1).starts_with(close)) {
    sign = '-';
  } else if (block && ahead("+") && rest().substr(1).starts_with(close)) {
    sign = '+';
  } else if (!ahead(close)) {
    return false;
  }
  push(block ? Token::Kind::kBlockEnd : Token::Kind::kVariableEnd);
  const size_t bytes = sign == ' ' ? 2 : 3;
  if (block) {
    end_of_tag(bytes, sign);
    return true;
  }
  advance(bytes);
  if (sign == '-') skip_spaces();
  line_starting_ = text_[at_ - 1] == '\n';
  return true;
}

void Lexer::number() {
  size_t end = at_;
  const auto digits = [&](auto valid) {
    while (end < text_.size() &&
           (valid(text_[end]) ||
            (text_[end] == '_' && end + 1 < text_.size() && valid(text_[end + 1])))) {
      ++end;
    }
  };
  Token token;
  token.where = where_;
  token.kind = Token::Kind::kInt;
  unsigned base = 10;
  if (ahead("0x") || ahead("0X")) base = 16;
  if (ahead("0o") || ahead("0O")) base = 8;
  if (ahead("0b") || ahead("0B")) base = 2;
  if (base != 10) end += 2;
  const size_t first = end;
  digits([&](char c) { return base == 16 ? hex_value(c) >= 0 : is_decimal(c); });
  if (base == 10) {
    // "a.0.1" takes an element of an element.
    const bool element =
        !tokens_.empty() && tokens_.back().kind == Token::Kind::kSign && tokens_.back().text == ".";
    if (!element && end + 1 < text_.size() && text_[end] == '.' && is_decimal(text_[end + 1])) {
      ++end;
      digits(is_decimal);
    }
    size_t e = end;
    if (e < text_.size() && (text_[e] == 'e' || text_[e] == 'E')) {
      ++e;
      if (e < text_.size() && (text_[e] == '+' || text_[e] == '-')) ++e;
      if (e < text_.size() && is_decimal(text_[e])) {
        end = e;
        digits(is_decimal);
      }
    }
  }
  std::string plain;
  for (size_t i = first; i < end; ++i) {
    if (text_[i] != '_') plain += text_[i];
  }
  if (base == 10 && plain.find_first_of("eE.") != std::string::npos) {
    token.kind = Token::Kind::kReal;
  }
  set_number(token, plain, base);
  tokens_.push_back(std::move(token));
  advance(end - at_);
}

void Lexer::set_number(Token& token, const std::string& plain, unsigned base) {
  if (token.kind == Token::Kind::kReal) {
    const auto value = parse_real(plain);
    if (!value) fail_here(format("'{}' is no number", printable(plain)));
    token.real = *value;
  } else {
    if (plain.empty()) fail_here("digits are missing in a number");
    for (char c : plain) {
      const auto digit = static_cast<unsigned>(hex_value(c));
      if (digit >= base) fail_here(format("'{}' is no digit of base {}", c, base));
      if (__builtin_mul_overflow(token.whole, int64_t{base}, &token.whole) ||
          __builtin_add_overflow(token.whole, int64_t{digit}, &token.whole)) {
        fail_here(format("number {} does not fit in 64 bits", printable(plain)));
      }
    }
  }
}

uint32_t Lexer::hex_digits(size_t count) {
  uint32_t value = 0;
  for (size_t i = 0; i < count; ++i) {
    const int digit = at_ < text_.size() ? hex_value(text_[at_]) : -1;
    if (digit < 0) fail_here(format("an escape needs {} hexadecimal digits", count));
    value = value * 16 + static_cast<uint32_t>(digit);
    advance(1);
  }
  return value;
}

// Behind a backslash.
void Lexer::escape(std::string& out) {
  static constexpr std::string_view kLetters = "\\'\"abfnrtv";
  static constexpr std::string_view kMeanings = "\\'\"\a\b\f\n\r\t\v";
  const char c = text_[at_];
  if (const size_t i = kLetters.find(c); i != std::string_view::npos) {
    out += kMeanings[i];
    advance(1);
  } else if (c == '\n') {
    advance(1);
  } else if (c == 'x' || c == 'u' || c == 'U') {
    advance(1);
    const uint32_t point = hex_digits(c == 'x' ? 2 : c == 'u' ? 4 : 8);
    if (point > 0x10FFFF || (point >= 0xD800 && point < 0xE000)) {
      fail_here(format("escape {:x} is no character", point));
    }
    append_code_point(out, point);
  } else if (c >= '0' && c <= '7') {
    uint32_t value = 0;
    for (int i = 0; i < 3 && at_ < text_.size() && text_[at_] >= '0' && text_[at_] <= '7'; ++i) {
      value = value * 8 + static_cast<uint32_t>(text_[at_] - '0');
      advance(1);
    }
    append_code_point(out, value);
  } else if (c == 'N') {
    fail_here("escape '\\N{...}' is not supported");
  } else {
    out += '\\';  // Python keeps what it does not know
  }
}

void Lexer::string() {
  const char quote = text_[at_];
  const Position start = where_;
  push(Token::Kind::kString);
  std::string value;
  advance(1);
  while (true) {
    if (at_ >= text_.size()) fail_at(source_, start, "a string has no end");
    const char c = text_[at_];
    if (c == quote) break;
    advance(1);
    if (c != '\\') {
      value += c;
    } else if (at_ < text_.size()) {
      escape(value);
    }
  }
  advance(1);
  tokens_.back().text = std::move(value);
}

void Lexer::sign() {
  static constexpr std::string_view kSigns[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/",
                                                "*",  "%",  "~",  "[",  "]",  "(",  ")", "{", "}",
                                                "<",  ">",  "=",  ".",  ":",  "|",  ",", ";"};
  for (std::string_view s : kSigns) {
    if (!ahead(s)) continue;
    const char c = s[0];
    if (c == '(' || c == '[' || c == '{') open_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (open_.empty()) fail_here(format("unexpected '{}'", c));
      if (open_.back() != c) fail_here(format("unexpected '{}', expected '{}'", c, open_.back()));
      open_.pop_back();
    }
    push(Token::Kind::kSign, std::string(s));
    advance(s.size());
    return;
  }
  fail_here(format("unexpected character '{}'", printable(rest().substr(0, 1))));
}

// Behind "{%" or "{{": tokens up to the end of the tag.
void Lexer::tag(bool block) {
  const Position start = where_;
  push(block ? Token::Kind::kBlockBegin : Token::Kind::kVariableBegin);
  advance(2);
  if (ahead("-") || ahead("+")) advance(1);
  open_.clear();
  while (true) {
    skip_spaces();
    if (at_ >= text_.size()) {
      fail_at(source_, start, format("'{}' has no end", block ? "{%" : "{{"));
    }
    const char c = text_[at_];
    if (open_.empty() && tag_end(block)) return;
    if (is_decimal(c)) {
      number();
    } else if (is_name_start(c)) {
      size_t end = at_;
      while (end < text_.size() && is_name_part(text_[end])) ++end;
      push(Token::Kind::kName, text_.substr(at_, end - at_));
      advance(end - at_);
    } else if (c == '"' || c == '\'') {
      string();
    } else {
      sign();
    }
  }
}

std::vector<Token> Lexer::run() {
  while (at_ < text_.size()) {
    size_t begin = at_;
    while ((begin = text_.find('{', begin)) != std::string::npos) {
      const char c = begin + 1 < text_.size() ? text_[begin + 1] : ' ';
      if (c == '%' || c == '{' || c == '#') break;
      ++begin;
    }
    if (begin == std::string::npos) {
      data_until(text_.size(), '+', false);
      break;
    }
    const char kind = text_[begin + 1];
    const char sign = begin + 2 < text_.size() ? text_[begin + 2] : ' ';
    data_until(begin, sign, kind != '{');
    if (kind == '#') {
      comment();
    } else if (kind == '{') {
      tag(false);
    } else if (!raw()) {
      tag(true);
    }
  }
  push(Token::Kind::kEnd);
  return std::move(tokens_);
}

}  // namespace

void fail_at(const std::string& source, Position where, const std::string& message) {
  throw Error(ErrorKind::kBadInput,
              format("{}:{}:{}: {}", source, where.line, where.column, message));
}

std::vector<Token> tokenize(std::string_view text, const std::string& source) {
  return Lexer(text, source).run();
}

}  // namespace braid::jinja
