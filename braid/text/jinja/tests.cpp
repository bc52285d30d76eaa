// Tests: what stands behind `is`.

#include "braid/base/format.h"
#include "braid/text/jinja/interpreter.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {
namespace {

using Predicate = bool (*)(const Value&);

template <Predicate kHolds>
bool plain(Interpreter&, const Value& v, Args& args) {
  args.bind({});
  return kHolds(v);
}

bool is_defined(const Value& v) { return !v.is_undefined(); }
bool is_undefined(const Value& v) { return v.is_undefined(); }
bool is_none(const Value& v) { return v.is_none(); }
bool is_string(const Value& v) { return v.is_string(); }
bool is_number(const Value& v) { return v.is_number(); }
bool is_integer(const Value& v) { return v.is_int(); }
bool is_float(const Value& v) { return v.is(Kind::kReal); }
bool is_boolean(const Value& v) { return v.is(Kind::kBool); }
bool is_mapping(const Value& v) { return v.is(Kind::kDict); }
bool is_iterable(const Value& v) { return iterable(v) || v.is(Kind::kLoop); }
bool is_sequence(const Value& v) {  // has a length and elements; Undefined does too
  return iterable(v) && !v.is(Kind::kView) && !v.is(Kind::kIterator);
}
bool is_true(const Value& v) { return v.is(Kind::kBool) && v.as_bool(); }
bool is_false(const Value& v) { return v.is(Kind::kBool) && !v.as_bool(); }
bool is_callable(const Value& v) {
  return v.is(Kind::kCallable) || v.is(Kind::kLoop) || v.is(Kind::kJoiner) || v.is_undefined();
}

int64_t remainder(Interpreter& in, const Value& v, int64_t by) {
  const Value r = arithmetic(in.heap(), Operator::kMod, v, by);
  return r.is_whole() ? r.as_int() : (r.as_real() == 0 ? 0 : r.as_real() == 1 ? 1 : 2);
}

bool even(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  return remainder(in, v, 2) == 0;
}
bool odd(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  return remainder(in, v, 2) == 1;
}
bool divisible(Interpreter& in, const Value& v, Args& args) {
  return remainder(in, v, whole_or(args.bind({"num"}, 1)[0], 1, "num")) == 0;
}

bool eq(Interpreter& in, const Value& v, Args& args) {
  return equal(in.heap(), v, *args.bind({"other"}, 1)[0]);
}
bool ne(Interpreter& in, const Value& v, Args& args) { return !eq(in, v, args); }

template <int kFirst, int kSecond>
bool ordered(Interpreter& in, const Value& v, Args& args) {
  const int order = compare(in.heap(), v, *args.bind({"other"}, 1)[0]);
  return order == kFirst || order == kSecond;
}

bool same_as(Interpreter& in, const Value& v, Args& args) {
  const Value& other = *args.bind({"other"}, 1)[0];
  if (v.kind() != other.kind()) return false;
  if (v.kind() >= Kind::kList) return v.object() == other.object();
  return equal(in.heap(), v, other);
}

bool in_test(Interpreter& in, const Value& v, Args& args) {
  return contains(in.heap(), *args.bind({"seq"}, 1)[0], v);
}

// All letters of that case, and at least one.
template <bool kUpper>
bool letter_case(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  const std::string s = soft_text(in, v);
  bool any = false;
  for (size_t at = 0; at < s.size(); at += character_bytes(s, at)) {
    const uint32_t c = code_point(std::string_view(s).substr(at));
    if (kUpper ? is_cased_lower(c) : is_cased_upper(c)) return false;
    any = any || (kUpper ? is_cased_upper(c) : is_cased_lower(c));
  }
  return any;
}

bool filter_exists(Interpreter&, const Value& v, Args& args) {
  args.bind({});
  return v.is_string() && find_filter(v.text());
}
bool test_exists(Interpreter&, const Value& v, Args& args) {
  args.bind({});
  return v.is_string() && find_test(v.text());
}

struct TestEntry {
  std::string_view name;
  Test test;
};

constexpr TestEntry kTests[] = {
    {"defined", &plain<&is_defined>},
    {"undefined", &plain<&is_undefined>},
    {"none", &plain<&is_none>},
    {"string", &plain<&is_string>},
    {"number", &plain<&is_number>},
    {"integer", &plain<&is_integer>},
    {"float", &plain<&is_float>},
    {"boolean", &plain<&is_boolean>},
    {"mapping", &plain<&is_mapping>},
    {"iterable", &plain<&is_iterable>},
    {"sequence", &plain<&is_sequence>},
    {"true", &plain<&is_true>},
    {"false", &plain<&is_false>},
    {"callable", &plain<&is_callable>},
    {"even", &even},
    {"odd", &odd},
    {"divisibleby", &divisible},
    {"eq", &eq},
    {"equalto", &eq},
    {"==", &eq},
    {"ne", &ne},
    {"!=", &ne},
    {"lt", &ordered<-1, -1>},
    {"lessthan", &ordered<-1, -1>},
    {"<", &ordered<-1, -1>},
    {"le", &ordered<-1, 0>},
    {"<=", &ordered<-1, 0>},
    {"gt", &ordered<1, 1>},
    {"greaterthan", &ordered<1, 1>},
    {">", &ordered<1, 1>},
    {"ge", &ordered<1, 0>},
    {">=", &ordered<1, 0>},
    {"sameas", &same_as},
    {"in", &in_test},
    {"upper", &letter_case<true>},
    {"lower", &letter_case<false>},
    {"filter", &filter_exists},
    {"test", &test_exists},
};

std::vector<std::string_view> all_test_names() {
  std::vector<std::string_view> names;
  for (const TestEntry& e : kTests) names.push_back(e.name);
  return names;
}

}  // namespace

Test find_test(std::string_view name) {
  for (const TestEntry& e : kTests) {
    if (e.name == name) return e.test;
  }
  return nullptr;
}

std::span<const std::string_view> test_names() {
  static const std::vector<std::string_view> names = all_test_names();
  return names;
}

}  // namespace braid::jinja
