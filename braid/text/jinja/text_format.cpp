#include "braid/text/jinja/text_format.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "braid/base/format.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {
namespace {

constexpr int kWidest = 10000;  // characters of one field, digits after its point

struct Spec {
  std::string_view fill = " ";
  char align = 0;  // '<', '>', '^', '='; 0: numbers right, texts left
  char sign = '-';
  bool alternate = false;
  bool comma = false;
  int width = 0;
  int precision = -1;
  char type = 0;
};

// Reads decimal digits at `at`.
int read_width(std::string_view s, size_t& at) {
  int n = 0;
  while (at < s.size() && s[at] >= '0' && s[at] <= '9') {
    n = n * 10 + (s[at++] - '0');
    if (n > kWidest) fail(format("a field is wider than {}", kWidest));
  }
  return n;
}

std::string padded(const Spec& spec, std::string sign, std::string body, bool number) {
  const auto have = static_cast<int>(count_characters(sign) + count_characters(body));
  if (have >= spec.width) return format("{}{}", sign, body);
  const int missing = spec.width - have;
  const char align = spec.align ? spec.align : number ? '>' : '<';
  const int left = align == '<' ? 0 : align == '^' ? missing / 2 : missing;
  std::string before, after;
  for (int i = 0; i < left; ++i) before += spec.fill;
  for (int i = left; i < missing; ++i) after += spec.fill;
  if (align == '=') return format("{}{}{}", sign, before, body);
  return format("{}{}{}{}", before, sign, body, after);
}

std::string grouped(const std::string& digits) {
  const size_t whole = std::min(digits.find_first_not_of("0123456789"), digits.size());
  std::string out;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && i < whole && (whole - i) % 3 == 0) out += ',';
    out += digits[i];
  }
  return out;
}

std::string sign_of(bool negative, const Spec& spec) {
  if (negative) return "-";
  return spec.sign == '-' ? "" : std::string(1, spec.sign);
}

std::string whole_field(int64_t v, const Spec& spec) {
  const uint64_t size = v < 0 ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
  const std::string_view figures = spec.type == 'X' ? "0123456789ABCDEF" : "0123456789abcdef";
  std::string digits, prefix;
  const unsigned base = spec.type == 'x' || spec.type == 'X' ? 16
                        : spec.type == 'o'                   ? 8
                        : spec.type == 'b'                   ? 2
                                                             : 10;
  for (uint64_t rest = size; rest > 0 || digits.empty(); rest /= base)
    digits += figures[rest % base];
  std::reverse(digits.begin(), digits.end());
  if (spec.alternate && base != 10) prefix = format("0{}", spec.type);
  if (spec.comma) digits = grouped(digits);
  return padded(spec, format("{}{}", sign_of(v < 0, spec), prefix), digits, true);
}

std::string real_field(double v, const Spec& spec) {
  std::string body;
  const double size = std::fabs(v);
  const bool percent = spec.type == '%';
  if (!std::isfinite(v)) {
    body = std::isnan(v) ? "nan" : "inf";
  } else {
    const char type = percent ? 'f' : spec.type == 0 ? 'g' : spec.type;
    const int precision = spec.precision < 0 ? 6 : spec.precision;
    const std::string pattern = format("%.*{}", type);
    const double shown = percent ? size * 100 : size;
    const int n = std::snprintf(nullptr, 0, pattern.c_str(), precision, shown);
    body.resize(static_cast<size_t>(n) + 1);
    std::snprintf(body.data(), body.size(), pattern.c_str(), precision, shown);
    body.pop_back();
    if (spec.comma) body = grouped(body);
    if (percent) body += '%';
  }
  return padded(spec, sign_of(std::signbit(v) && !std::isnan(v), spec), body, true);
}

std::string text_field(std::string_view s, const Spec& spec) {
  if (spec.precision >= 0) {
    const auto starts = character_starts(s);
    const auto keep = std::min(starts.size() - 1, static_cast<size_t>(spec.precision));
    s = s.substr(0, starts[keep]);
  }
  return padded(spec, "", std::string(s), false);
}

bool is_whole_type(char c) { return std::string_view("dioxXub").find(c) != std::string_view::npos; }
bool is_real_type(char c) { return std::string_view("eEfFgG%").find(c) != std::string_view::npos; }

// %[(name)][flags][width][.precision]type
class Percent {
 public:
  Percent(Heap& heap, std::string_view pattern, const Value& arguments)
      : heap_(heap), pattern_(pattern), arguments_(arguments) {}
  std::string run();

 private:
  void field();
  Value next_argument();
  std::string shown(Spec spec, const Value& v);
  Heap& heap_;
  std::string_view pattern_;
  const Value& arguments_;
  size_t at_ = 0;
  size_t used_ = 0;
  bool named_ = false;
  std::string out_;
};

Value Percent::next_argument() {
  if (!arguments_.is(Kind::kTuple)) {
    if (used_++ > 0) fail("not enough arguments for format string");
    return arguments_;
  }
  const auto& items = arguments_.as<List>().items;
  if (used_ >= items.size()) fail("not enough arguments for format string");
  return items[used_++];
}

std::string Percent::shown(Spec spec, const Value& v) {
  if (spec.type == 's') return text_field(to_text(heap_, v), spec);
  if (spec.type == 'r') return text_field(repr(heap_, v), spec);
  if (spec.type == 'c') {
    if (!v.is_string()) {
      if (!v.is_whole() || v.as_int() < 0 || v.as_int() > 0x10FFFF) fail("%c requires a character");
      std::string c;
      append_code_point(c, static_cast<uint32_t>(v.as_int()));
      return text_field(c, spec);
    }
    return text_field(v.text(), spec);
  }
  if (v.is_undefined()) fail_undefined(v);
  if (!v.is_number()) {
    fail(format("%{} format: a number is required, not {}", spec.type, type_name(v)));
  }
  if (is_whole_type(spec.type) && spec.type != 'b') {
    if (v.is(Kind::kReal) && !(std::fabs(v.as_real()) < 9.2e18)) {
      fail("a number does not fit in 64 bits");
    }
    return whole_field(v.is_whole() ? v.as_int() : static_cast<int64_t>(v.as_real()), spec);
  }
  if (spec.type != '%' && is_real_type(spec.type)) return real_field(v.as_real(), spec);
  fail(format("unsupported format character '{}'", spec.type));
}

void Percent::field() {
  Spec spec;
  const auto peek = [&] {
    if (at_ >= pattern_.size()) fail("incomplete format");
    return pattern_[at_];
  };
  Value value;
  if (peek() == '(') {
    const size_t end = pattern_.find(')', at_);
    if (end == std::string_view::npos) fail("incomplete format key");
    if (!arguments_.is(Kind::kDict)) fail("format requires a mapping");
    const std::string_view name = pattern_.substr(at_ + 1, end - at_ - 1);
    const Value* v = find(heap_, arguments_.as<Dict>(), name);
    if (!v) fail(format("no value for '{}' of the format", name));
    value = *v;
    named_ = true;
    at_ = end + 1;
  }
  for (bool flags = true; flags;) {
    switch (peek()) {
      case '-':
        spec.align = '<';
        break;
      case '+':
        spec.sign = '+';
        break;
      case ' ':
        if (spec.sign == '-') spec.sign = ' ';
        break;
      case '#':
        spec.alternate = true;
        break;
      case '0':
        if (!spec.align) spec.fill = "0", spec.align = '=';
        break;
      default:
        flags = false;
        continue;
    }
    ++at_;
  }
  if (spec.align == '<') spec.fill = " ";
  spec.width = read_width(pattern_, at_);
  if (peek() == '.') {
    ++at_;
    spec.precision = read_width(pattern_, at_);
  }
  spec.type = peek();
  ++at_;
  if (spec.type == '%') {
    out_ += '%';
    return;
  }
  if (!named_) value = next_argument();
  if (std::string_view("src").find(spec.type) != std::string_view::npos && spec.fill == "0") {
    spec.fill = " ";
    spec.align = '>';
  } else if (!spec.align) {
    spec.align = '>';  // texts too stand to the right
  }
  out_ += shown(spec, value);
  heap_.work(1 + static_cast<uint64_t>(spec.width) / 16);
}

std::string Percent::run() {
  while (at_ < pattern_.size()) {
    const char c = pattern_[at_++];
    if (c == '%') {
      field();
    } else {
      out_ += c;
    }
    if (out_.size() > heap_.limits().output) fail("a formatted text is too long");
  }
  const bool all_used = arguments_.is(Kind::kTuple)
                            ? used_ == arguments_.as<List>().items.size()
                            : used_ == 1 || arguments_.is(Kind::kDict) || named_;
  if (!all_used) fail("not all arguments converted during string formatting");
  return std::move(out_);
}

// [[fill]align][sign][#][0][width][,][.precision][type]
Spec brace_spec(std::string_view s) {
  Spec spec;
  size_t at = 0;
  const auto is_align = [](char c) { return c == '<' || c == '>' || c == '^' || c == '='; };
  if (!s.empty()) {
    const size_t first = character_bytes(s, 0);
    if (first < s.size() && is_align(s[first])) {
      spec.fill = s.substr(0, first);
      spec.align = s[first];
      at = first + 1;
    } else if (is_align(s[0])) {
      spec.align = s[0];
      at = 1;
    }
  }
  const auto eat = [&](char c) { return at < s.size() && s[at] == c ? (++at, true) : false; };
  for (char c : {'+', '-', ' '}) {
    if (eat(c)) {
      spec.sign = c;
      break;
    }
  }
  spec.alternate = eat('#');
  if (eat('0') && !spec.align) spec.fill = "0", spec.align = '=';
  spec.width = read_width(s, at);
  spec.comma = eat(',');
  if (eat('.')) spec.precision = read_width(s, at);
  if (at < s.size()) spec.type = s[at++];
  if (at < s.size()) fail(format("'{}' is no format of a field", s));
  return spec;
}

std::string brace_field(Heap& heap, const Value& v, std::string_view pattern) {
  if (pattern.empty()) return to_text(heap, v);
  const Spec spec = brace_spec(pattern);
  if (v.is_string() && (spec.type == 0 || spec.type == 's')) return text_field(v.text(), spec);
  if (v.is_whole() && (spec.type == 0 || is_whole_type(spec.type))) {
    return whole_field(v.as_int(), spec);
  }
  if (v.is(Kind::kReal) && spec.type == 0 && spec.precision < 0) {
    Spec plain = spec;
    plain.precision = -1;
    return padded(plain, "", real_text(v.as_real()), true);
  }
  if (v.is_number() && (spec.type == 0 || is_real_type(spec.type))) {
    return real_field(v.as_real(), spec);
  }
  fail(format("format '{}' does not fit a value of type '{}'", pattern, type_name(v)));
}

}  // namespace

std::string percent_format(Heap& heap, std::string_view pattern, const Value& arguments) {
  return Percent(heap, pattern, arguments).run();
}

std::string brace_format(Heap& heap, std::string_view pattern, const std::vector<Value>& positional,
                         const std::vector<std::pair<std::string, Value>>& named) {
  std::string out;
  size_t next = 0;
  for (size_t at = 0; at < pattern.size(); ++at) {
    const char c = pattern[at];
    const bool doubled = at + 1 < pattern.size() && pattern[at + 1] == c;
    if (c != '{' && c != '}') {
      out += c;
      continue;
    }
    if (doubled) {
      out += c;
      ++at;
      continue;
    }
    const size_t end = pattern.find('}', at);
    if (c == '}' || end == std::string_view::npos) fail("single brace in format string");
    std::string_view field = pattern.substr(at + 1, end - at - 1), spec;
    if (const size_t colon = field.find(':'); colon != std::string_view::npos) {
      spec = field.substr(colon + 1);
      field = field.substr(0, colon);
    }
    if (field.find_first_of("!.[") != std::string_view::npos ||
        spec.find('{') != std::string_view::npos) {
      fail(format("'{{{}}}': only names and numbers are supported in a format", field));
    }
    const Value* v = nullptr;
    if (field.find_first_not_of("0123456789") == std::string_view::npos) {
      size_t zero = 0;
      const size_t index = field.empty() ? next++ : static_cast<size_t>(read_width(field, zero));
      if (index < positional.size()) v = &positional[index];
    } else {
      for (const auto& [name, value] : named) {
        if (name == field) v = &value;
      }
    }
    if (!v) fail(format("format needs a value for '{{{}}}'", field));
    out += brace_field(heap, *v, spec);
    heap.work(2 + out.size() / 4096);
    if (out.size() > heap.limits().output) fail("a formatted text is too long");
    at = end;
  }
  return out;
}

}  // namespace braid::jinja
