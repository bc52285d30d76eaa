// Arguments of calls, the tables of filters, and filters on single values.

#include <algorithm>
#include <cmath>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/jinja/interpreter.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {

std::vector<const Value*> Args::bind(std::initializer_list<std::string_view> names,
                                     size_t required) const {
  std::vector<const Value*> values(names.size(), nullptr);
  if (positional.size() > names.size()) {
    fail(
        format("{} takes at most {} arguments, not {}", function, names.size(), positional.size()));
  }
  for (size_t i = 0; i < positional.size(); ++i) values[i] = &positional[i];
  for (const auto& [name, value] : named) {
    const auto at =
        static_cast<size_t>(std::find(names.begin(), names.end(), name) - names.begin());
    if (at == names.size()) fail(format("{} takes no argument '{}'", function, printable(name)));
    if (values[at]) fail(format("{} got '{}' twice", function, name));
    values[at] = &value;
  }
  for (size_t i = 0; i < required; ++i) {
    if (!values[i]) fail(format("{} needs '{}'", function, names.begin()[i]));
  }
  return values;
}

int64_t whole_or(const Value* v, int64_t other, std::string_view what) {
  if (!v) return other;
  if (v->is_undefined()) fail_undefined(*v);
  if (!v->is_whole()) fail(format("{} must be a whole number, not '{}'", what, type_name(*v)));
  return v->as_int();
}

bool truth_or(const Value* v, bool other) { return v ? truth(*v) : other; }

std::string text_or(Heap& heap, const Value* v, std::string_view other) {
  return v ? to_text(heap, *v) : std::string(other);
}

const std::string& text_of(const Value& v, std::string_view what) {
  if (v.is_undefined()) fail_undefined(v);
  if (!v.is_string()) fail(format("{} must be a string, not '{}'", what, type_name(v)));
  return v.text();
}

std::string soft_text(Interpreter& in, const Value& v) {
  std::string text = to_text(in.heap(), v);
  in.heap().work(1 + text.size() / 64);
  return text;
}

namespace {

Value default_filter(Interpreter&, const Value& v, Args& args) {
  const auto a = args.bind({"default_value", "boolean"});
  const bool replace = v.is_undefined() || (truth_or(a[1], false) && !truth(v));
  if (!replace) return v;
  return a[0] ? *a[0] : Value::constant("");
}

Value abs_filter(Interpreter&, const Value& v, Args& args) {
  args.bind({});
  if (v.is(Kind::kReal)) return std::fabs(v.as_real());
  return v.is_whole() && v.as_int() >= 0 ? Value(v.as_int()) : negate(v, true);
}

// A whole number as int(text, base) reads it.
bool read_whole(std::string_view text, int64_t base, int64_t& out) {
  text = strip(text, true, true);
  bool negative = false;
  if (!text.empty() && (text[0] == '-' || text[0] == '+')) {
    negative = text[0] == '-';
    text.remove_prefix(1);
  }
  const auto prefixed = [&](char lower) {
    return text.size() > 2 && text[0] == '0' && (text[1] | 32) == lower;
  };
  if ((base == 16 && prefixed('x')) || (base == 8 && prefixed('o')) ||
      (base == 2 && prefixed('b'))) {
    text.remove_prefix(2);
  }
  if (text.empty() || text.front() == '_' || text.back() == '_') return false;
  int64_t value = 0;
  for (char c : text) {
    if (c == '_') continue;
    const int digit = c >= '0' && c <= '9'                 ? c - '0'
                      : (c | 32) >= 'a' && (c | 32) <= 'z' ? (c | 32) - 'a' + 10
                                                           : 99;
    if (digit >= base) return false;
    if (__builtin_mul_overflow(value, base, &value) ||
        __builtin_sub_overflow(value, int64_t{digit}, &value)) {
      fail("a whole number does not fit in 64 bits");
    }
  }
  if (!negative && value == INT64_MIN) fail("a whole number does not fit in 64 bits");
  out = negative ? value : -value;  // gathered below zero, where there is one more
  return true;
}

// float(text): also inf and nan, and blanks around.
bool read_real(std::string_view text, double& out) {
  text = strip(text, true, true);
  bool negative = false;
  std::string plain;
  for (char c : text) {
    if (c != '_') plain += c;
  }
  if (!plain.empty() && (plain[0] == '-' || plain[0] == '+')) {
    negative = plain[0] == '-';
    plain = plain.substr(1);
  }
  const std::string word = lower(plain);
  if (word == "inf" || word == "infinity") {
    out = negative ? -INFINITY : INFINITY;
    return true;
  }
  if (word == "nan") {
    out = NAN;
    return true;
  }
  if (plain.empty() || plain[0] == '-') return false;
  const std::string whole =
      format("{}{}{}", plain[0] == '.' ? "0" : "", plain, plain.back() == '.' ? "0" : "");
  const auto value = parse_real(whole);
  if (!value) return false;
  out = negative ? -*value : *value;
  return true;
}

bool truncated(double d, int64_t& out) {
  if (!(std::fabs(d) < 9.2e18)) return false;
  out = static_cast<int64_t>(d);
  return true;
}

Value int_filter(Interpreter&, const Value& v, Args& args) {
  const auto a = args.bind({"default", "base"});
  const int64_t base = whole_or(a[1], 10, "base");
  if (base < 2 || base > 36) fail(format("base {} is not from 2 to 36", base));
  if (v.is_undefined()) fail_undefined(v);
  if (v.is_whole()) return v.as_int();
  int64_t whole = 0;
  double real = 0;
  if (v.is(Kind::kReal) && truncated(v.as_real(), whole)) return whole;
  if (v.is_string() && read_whole(v.text(), base, whole)) return whole;
  if (v.is_string() && read_real(v.text(), real) && truncated(real, whole)) return whole;
  return a[0] ? *a[0] : Value(int64_t{0});
}

Value float_filter(Interpreter&, const Value& v, Args& args) {
  const auto a = args.bind({"default"});
  if (v.is_undefined()) fail_undefined(v);
  if (v.is_number()) return v.as_real();
  double real = 0;
  if (v.is_string() && read_real(v.text(), real)) return real;
  return a[0] ? *a[0] : Value(0.0);
}

// `v` to the nearest multiple of 10^digits, from halfway to the even one.
int64_t rounded(int64_t v, int64_t digits) {
  if (digits > 19) return 0;  // half of 10^20 is beyond 64 bits
  uint64_t unit = 1;
  for (int64_t i = 0; i < digits; ++i) unit *= 10;
  const uint64_t size = v < 0 ? 0 - static_cast<uint64_t>(v) : static_cast<uint64_t>(v);
  const uint64_t rest = size % unit, odd = size / unit % 2;
  const uint64_t near =
      size - rest + (rest > unit - rest || (rest == unit - rest && odd) ? unit : 0);
  if (near > uint64_t{INT64_MAX} + (v < 0)) fail("a whole number does not fit in 64 bits");
  return static_cast<int64_t>(v < 0 ? 0 - near : near);
}

Value round_filter(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"precision", "method"});
  const int64_t precision = whole_or(a[0], 0, "precision");
  const std::string method = text_or(in.heap(), a[1], "common");
  if (v.is_undefined()) fail_undefined(v);
  if (!v.is_number()) fail(format("round needs a number, not '{}'", type_name(v)));
  if (precision < -300 || precision > 300) fail(format("precision {} is too large", precision));
  if (method == "ceil" || method == "floor") {
    const double scale = std::pow(10.0, static_cast<double>(precision));
    const double x = v.as_real() * scale;
    return (method == "ceil" ? std::ceil(x) : std::floor(x)) / scale;
  }
  if (method != "common") fail("the method of round is common, ceil or floor");
  if (v.is_whole()) return precision < 0 ? rounded(v.as_int(), -precision) : v.as_int();
  if (!std::isfinite(v.as_real())) return v;
  if (precision >= 0) {  // the nearest decimal number, as printing finds it
    const auto text = fmt::format("{:.{}f}", v.as_real(), precision);
    return parse_real(text).value_or(v.as_real());
  }
  const double scale = std::pow(10.0, static_cast<double>(-precision));
  return std::nearbyint(v.as_real() / scale) * scale;
}

Value tojson_filter(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"ensure_ascii", "indent", "separators", "sort_keys"});
  JsonStyle style;
  style.ascii = truth_or(a[0], false);
  style.sort_keys = truth_or(a[3], false);
  if (a[1] && !a[1]->is_none()) {
    style.indented = true;
    style.item_separator.resize(1);  // without the blank
    if (a[1]->is_string()) {
      style.indent = a[1]->text();
    } else {
      const int64_t n = whole_or(a[1], 0, "indent");
      if (n > 1000) fail(format("indent {} is too large", n));
      style.indent.assign(static_cast<size_t>(std::max<int64_t>(n, 0)), ' ');
    }
  }
  if (a[2] && !a[2]->is_none()) {
    const auto parts = items_of(in.heap(), *a[2]);
    if (parts.size() != 2) fail("separators are two texts");
    style.item_separator = text_of(parts[0], "a separator");
    style.key_separator = text_of(parts[1], "a separator");
  }
  return in.heap().text(to_json(in.heap(), v, style));
}

Value string_filter(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  return v.is_string() ? v : in.heap().text(to_text(in.heap(), v));
}

Value attr_filter(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"name"}, 1);
  const std::string& name = text_of(*a[0], "an attribute");
  if (v.is(Kind::kDict) && !find_method(v, name)) {
    return Value::undefined(format("'dict object' has no attribute '{}'", name));
  }
  return in.attribute(v, name);
}

constexpr FilterEntry kNumberFilters[] = {
    {"default", &default_filter}, {"d", &default_filter},     {"abs", &abs_filter},
    {"int", &int_filter},         {"float", &float_filter},   {"round", &round_filter},
    {"tojson", &tojson_filter},   {"string", &string_filter}, {"attr", &attr_filter},
};

std::vector<std::string_view> all_filter_names() {
  std::vector<std::string_view> names;
  for (auto table : {text_filters(), sequence_filters(), number_filters()}) {
    for (const auto& e : table) names.push_back(e.name);
  }
  return names;
}

}  // namespace

std::span<const FilterEntry> number_filters() { return kNumberFilters; }

Filter find_filter(std::string_view name) {
  for (auto table : {text_filters(), sequence_filters(), number_filters()}) {
    for (const auto& e : table) {
      if (e.name == name) return e.filter;
    }
  }
  return nullptr;
}

std::span<const std::string_view> filter_names() {
  static const std::vector<std::string_view> names = all_filter_names();
  return names;
}

}  // namespace braid::jinja
