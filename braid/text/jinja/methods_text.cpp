// Methods of str.

#include <algorithm>

#include "braid/base/format.h"
#include "braid/text/jinja/interpreter.h"
#include "braid/text/jinja/text_format.h"
#include "braid/text/jinja/text_tools.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {
namespace {

// Counts the reading of the text.
const std::string& read(Interpreter& in, const Value& self) {
  in.heap().work(1 + self.text().size() / 64);
  return self.text();
}

template <std::string (*kMap)(std::string_view)>
Value mapped(Interpreter& in, const Value& self, Args& args) {
  args.bind({});
  return in.heap().text(kMap(read(in, self)));
}

template <bool kLeft, bool kRight>
Value strip_method(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"chars"});
  const std::string& s = read(in, self);
  const bool blanks = !a[0] || a[0]->is_none();
  return in.heap().text(std::string(blanks ? strip(s, kLeft, kRight)
                                           : strip(s, text_of(*a[0], "chars"), kLeft, kRight)));
}

// Runs of white space end a word.
std::vector<std::string_view> words(std::string_view s, int64_t most) {
  std::vector<std::string_view> parts;
  s = strip(s, true, false);
  while (!s.empty()) {
    if (most >= 0 && static_cast<int64_t>(parts.size()) == most) {
      parts.push_back(strip(s, false, true));
      break;
    }
    size_t end = 0;
    while (end < s.size() && !is_space(code_point(s.substr(end)))) end += character_bytes(s, end);
    parts.push_back(s.substr(0, end));
    s = strip(s.substr(end), true, false);
  }
  return parts;
}

std::vector<std::string_view> words_from_right(std::string_view s, int64_t most) {
  auto all = words(s, -1);
  if (most < 0 || static_cast<int64_t>(all.size()) <= most) return all;
  const size_t keep = all.size() - static_cast<size_t>(most);
  const std::string_view head = strip(s, true, true);
  std::vector<std::string_view> parts;
  if (keep > 0) {
    const auto end = static_cast<size_t>(all[keep - 1].data() + all[keep - 1].size() - head.data());
    parts.push_back(head.substr(0, end));
  }
  parts.insert(parts.end(), all.begin() + static_cast<std::ptrdiff_t>(keep), all.end());
  return parts;
}

Value texts(Interpreter& in, const std::vector<std::string_view>& parts) {
  std::vector<Value> out;
  for (std::string_view p : parts) {
    in.heap().element();
    out.push_back(in.heap().text(std::string(p)));
  }
  return in.heap().list(std::move(out));
}

template <bool kFromRight>
Value split(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"sep", "maxsplit"});
  const std::string_view s = read(in, self);
  int64_t most = whole_or(a[1], -1, "maxsplit");
  if (!a[0] || a[0]->is_none()) {
    return texts(in, kFromRight ? words_from_right(s, most) : words(s, most));
  }
  const std::string& between = text_of(*a[0], "sep");
  if (between.empty()) fail("empty separator");
  std::vector<std::string_view> parts;
  size_t begin = 0, end = s.size();
  for (; most != 0; most -= most > 0) {
    if constexpr (kFromRight) {
      if (end < between.size()) break;
      const size_t found = s.rfind(between, end - between.size());
      if (found == std::string_view::npos) break;
      parts.push_back(s.substr(found + between.size(), end - found - between.size()));
      end = found;
    } else {
      const size_t found = s.find(between, begin);
      if (found == std::string_view::npos) break;
      parts.push_back(s.substr(begin, found - begin));
      begin = found + between.size();
    }
    in.heap().element();
  }
  parts.push_back(s.substr(begin, end - begin));
  if (kFromRight) std::reverse(parts.begin(), parts.end());
  return texts(in, parts);
}

Value splitlines(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"keepends"});
  return texts(in, split_lines(read(in, self), truth_or(a[0], false)));
}

template <bool kFromRight>
Value partition(Interpreter& in, const Value& self, Args& args) {
  const std::string& between = text_of(*args.bind({"sep"}, 1)[0], "sep");
  const std::string& s = read(in, self);
  if (between.empty()) fail("empty separator");
  const size_t found = kFromRight ? s.rfind(between) : s.find(between);
  const auto part = [&](std::string text) { return in.heap().text(std::move(text)); };
  if (found == std::string::npos) {
    if (kFromRight) return in.heap().tuple({part(""), part(""), self});
    return in.heap().tuple({self, part(""), part("")});
  }
  return in.heap().tuple(
      {part(s.substr(0, found)), part(between), part(s.substr(found + between.size()))});
}

// The part of the text between two character places, as s[start:stop].
struct Window {
  std::string text;
  int64_t start;  // in characters
  bool empty;     // start lies behind the end
};
Window window(Interpreter& in, const Value& self, const Value* start, const Value* stop) {
  const Value none;
  if (!start && !stop) return {read(in, self), 0, false};
  const int64_t n = length_of(in.heap(), self);
  int64_t begin = start && !start->is_none() ? whole_or(start, 0, "start") : 0;
  if (begin < 0) begin = std::max<int64_t>(begin + n, 0);
  return {slice(in.heap(), self, begin, stop ? *stop : none, none).text(), begin, begin > n};
}

template <bool kAtEnd>
Value affix(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"prefix", "start", "end"}, 1);
  const Window w = window(in, self, a[1], a[2]);
  const auto holds = [&](const Value& v) {
    const std::string& part = text_of(v, "the argument of startswith or endswith");
    if (w.empty) return false;
    return kAtEnd ? w.text.ends_with(part) : w.text.starts_with(part);
  };
  if (!a[0]->is(Kind::kTuple)) return holds(*a[0]);
  const auto& choices = a[0]->as<List>().items;
  return std::any_of(choices.begin(), choices.end(), holds);
}

template <bool kFromRight, bool kMustFind>
Value find_method_of_text(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"sub", "start", "end"}, 1);
  const Window w = window(in, self, a[1], a[2]);
  const std::string& part = text_of(*a[0], "the text to find");
  const size_t found = w.empty      ? std::string::npos
                       : kFromRight ? w.text.rfind(part)
                                    : w.text.find(part);
  if (found != std::string::npos) {
    return w.start + count_characters(std::string_view(w.text).substr(0, found));
  }
  if (kMustFind) fail("substring not found");
  return int64_t{-1};
}

Value count(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"sub", "start", "end"}, 1);
  const Window w = window(in, self, a[1], a[2]);
  const std::string& part = text_of(*a[0], "the text to count");
  if (part.empty()) return w.empty ? int64_t{0} : count_characters(w.text) + 1;
  int64_t n = 0;
  for (size_t at = w.text.find(part); at != std::string::npos;
       at = w.text.find(part, at + part.size())) {
    ++n;
  }
  return n;
}

Value replace(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"old", "new", "count"}, 2);
  return in.heap().text(replaced(in.heap(), read(in, self), text_of(*a[0], "old"),
                                 text_of(*a[1], "new"), whole_or(a[2], -1, "count")));
}

Value join(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"iterable"}, 1);
  std::string out;
  bool first = true;
  Iteration each(in.heap(), *a[0]);
  for (Value v; each.next(v);) {
    if (!std::exchange(first, false)) out += self.text();
    out += text_of(v, "an item of join");
    in.heap().work(1 + (self.text().size() + v.text().size()) / 64);
    if (out.size() > in.heap().limits().output) fail("a joined text is too long");
  }
  return in.heap().text(std::move(out));
}

Value format_method(Interpreter& in, const Value& self, Args& args) {
  return in.heap().text(brace_format(in.heap(), self.text(), args.positional, args.named));
}

template <bool kAtEnd>
Value remove_affix(Interpreter& in, const Value& self, Args& args) {
  const std::string& part = text_of(*args.bind({"affix"}, 1)[0], "the argument");
  const std::string& s = read(in, self);
  if (kAtEnd ? !s.ends_with(part) : !s.starts_with(part)) return self;
  return in.heap().text(kAtEnd ? s.substr(0, s.size() - part.size()) : s.substr(part.size()));
}

template <int kSide>
Value justify(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"width", "fillchar"}, 1);
  const std::string fill = text_or(in.heap(), a[1], " ");
  if (count_characters(fill) != 1) fail("the fill must be one character");
  return in.heap().text(justified(read(in, self), whole_or(a[0], 0, "width"), fill, kSide));
}

Value zfill(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"width"}, 1);
  const std::string& s = read(in, self);
  const size_t sign = !s.empty() && (s[0] == '-' || s[0] == '+') ? 1 : 0;
  const int64_t width = std::max<int64_t>(whole_or(a[0], 0, "width"), 0);
  return in.heap().text(s.substr(0, sign) +
                        justified(s.substr(sign), width - static_cast<int64_t>(sign), "0", 1));
}

// True when there are characters and the test holds for all of them.
template <bool (*kHolds)(uint32_t)>
Value all_characters(Interpreter& in, const Value& self, Args& args) {
  args.bind({});
  const std::string& s = read(in, self);
  for (size_t at = 0; at < s.size(); at += character_bytes(s, at)) {
    if (!kHolds(code_point(std::string_view(s).substr(at)))) return false;
  }
  return !s.empty();
}
bool is_letter_or_digit(uint32_t c) { return is_letter(c) || is_digit(c); }
bool is_below_128(uint32_t c) { return c < 128; }

Value isascii(Interpreter& in, const Value& self, Args& args) {
  args.bind({});
  return self.text().empty() || truth(all_characters<&is_below_128>(in, self, args));
}

// isupper and islower: some letter has a case, and none the other one.
template <bool kUpper>
Value is_case(Interpreter& in, const Value& self, Args& args) {
  args.bind({});
  const std::string& s = read(in, self);
  bool any = false;
  for (size_t at = 0; at < s.size(); at += character_bytes(s, at)) {
    const uint32_t c = code_point(std::string_view(s).substr(at));
    if (kUpper ? is_cased_lower(c) : is_cased_upper(c)) return false;
    any = any || (kUpper ? is_cased_upper(c) : is_cased_lower(c));
  }
  return any;
}

constexpr Method kTextMethods[] = {
    {"upper", &mapped<&upper>},
    {"lower", &mapped<&lower>},
    {"casefold", &mapped<&lower>},
    {"title", &mapped<&title>},
    {"capitalize", &mapped<&capitalize>},
    {"swapcase", &mapped<&swap_case>},
    {"strip", &strip_method<true, true>},
    {"lstrip", &strip_method<true, false>},
    {"rstrip", &strip_method<false, true>},
    {"split", &split<false>},
    {"rsplit", &split<true>},
    {"splitlines", &splitlines},
    {"partition", &partition<false>},
    {"rpartition", &partition<true>},
    {"startswith", &affix<false>},
    {"endswith", &affix<true>},
    {"find", &find_method_of_text<false, false>},
    {"rfind", &find_method_of_text<true, false>},
    {"index", &find_method_of_text<false, true>},
    {"rindex", &find_method_of_text<true, true>},
    {"count", &count},
    {"replace", &replace},
    {"join", &join},
    {"format", &format_method},
    {"removeprefix", &remove_affix<false>},
    {"removesuffix", &remove_affix<true>},
    {"ljust", &justify<-1>},
    {"rjust", &justify<1>},
    {"center", &justify<0>},
    {"zfill", &zfill},
    {"isdigit", &all_characters<&is_digit>},
    {"isdecimal", &all_characters<&is_digit>},
    {"isnumeric", &all_characters<&is_digit>},
    {"isalpha", &all_characters<&is_letter>},
    {"isalnum", &all_characters<&is_letter_or_digit>},
    {"isspace", &all_characters<&is_space>},
    {"isascii", &isascii},
    {"isupper", &is_case<true>},
    {"islower", &is_case<false>},
};

}  // namespace

std::span<const Method> text_methods() { return kTextMethods; }

}  // namespace braid::jinja
