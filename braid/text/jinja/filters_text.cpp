#include <algorithm>

#include "braid/base/format.h"
#include "braid/text/jinja/interpreter.h"
#include "braid/text/jinja/text_format.h"
#include "braid/text/jinja/text_tools.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {
namespace {

template <std::string (*kMap)(std::string_view)>
Value mapped(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  return in.heap().text(kMap(soft_text(in, v)));
}

// Words begin behind white space and the signs - ( { [ <
std::string title_words(std::string_view s) {
  std::string out;
  bool inside = false;
  for (size_t at = 0; at < s.size();) {
    const size_t bytes = character_bytes(s, at);
    const std::string_view c = s.substr(at, bytes);
    const bool edge =
        is_space(code_point(c)) || std::string_view("-({[<").find(c) != std::string_view::npos;
    out += edge ? std::string(c) : inside ? lower(c) : upper(c);
    inside = !edge;
    at += bytes;
  }
  return out;
}

Value trim(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"chars"});
  const std::string s = soft_text(in, v);
  if (!a[0] || a[0]->is_none()) return in.heap().text(std::string(strip(s, true, true)));
  return in.heap().text(std::string(strip(s, text_of(*a[0], "chars"), true, true)));
}

Value replace_filter(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"old", "new", "count"}, 2);
  const int64_t count = a[2] && !a[2]->is_none() ? whole_or(a[2], -1, "count") : -1;
  return in.heap().text(replaced(in.heap(), soft_text(in, v), to_text(in.heap(), *a[0]),
                                 to_text(in.heap(), *a[1]), count));
}

Value indent_filter(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"width", "first", "blank"});
  std::string pad = "    ";
  if (a[0] && a[0]->is_string()) {
    pad = a[0]->text();
  } else if (a[0]) {
    const int64_t n = whole_or(a[0], 4, "width");
    if (n > 10000) fail(format("an indent of {} is too wide", n));
    pad = std::string(static_cast<size_t>(std::max<int64_t>(n, 0)), ' ');
  }
  const std::string text = text_of(v, "what is indented") + "\n";
  std::string out = truth_or(a[1], false) ? pad : "";
  bool first = true;
  for (const std::string_view line : split_lines(text, false)) {
    if (!first) {
      out += '\n';
      if (truth_or(a[2], false) || !line.empty()) out += pad;
    }
    out += line;
    first = false;
    in.heap().work(1 + (pad.size() + line.size()) / 64);
    if (out.size() > in.heap().limits().output) fail("an indented text is too long");
  }
  return in.heap().text(std::move(out));
}

Value escape(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  std::string out;
  for (char c : soft_text(in, v)) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&#34;";
        break;
      default:
        out += c;
    }
  }
  return in.heap().text(std::move(out));
}

Value safe(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  return v.is_string() ? v : in.heap().text(to_text(in.heap(), v));
}

Value format_filter(Interpreter& in, const Value& v, Args& args) {
  if (!args.named.empty() && !args.positional.empty()) {
    fail("format takes positional or named arguments, not both");
  }
  const std::string pattern = soft_text(in, v);
  Value values;
  if (args.named.empty()) {
    values = in.heap().tuple(args.positional);
  } else {
    Dict* dict = in.heap().make<Dict>();
    for (const auto& [name, value] : args.named) put(in.heap(), *dict, in.heap().text(name), value);
    values = dict;
  }
  return in.heap().text(percent_format(in.heap(), pattern, values));
}

Value center(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"width"});
  return in.heap().text(justified(soft_text(in, v), whole_or(a[0], 80, "width"), " ", 0));
}

Value truncate(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"length", "killwords", "end", "leeway"});
  const int64_t length = whole_or(a[0], 255, "length");
  const std::string end = text_or(in.heap(), a[2], "...");
  const int64_t leeway = a[3] && !a[3]->is_none() ? whole_or(a[3], 5, "leeway") : 5;
  const std::string s = soft_text(in, v);
  const auto starts = character_starts(s);
  const auto n = static_cast<int64_t>(starts.size()) - 1;
  const int64_t tail = count_characters(end);
  if (length < tail || leeway < 0) fail("truncate needs a length above that of its end");
  if (n <= length || n - length <= leeway) return in.heap().text(s);
  std::string cut = s.substr(0, starts[static_cast<size_t>(length - tail)]);
  if (!truth_or(a[1], false)) cut = cut.substr(0, cut.rfind(' '));
  return in.heap().text(cut + end);
}

Value wordcount(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  const std::string s = soft_text(in, v);
  int64_t words = 0;
  bool inside = false;
  for (size_t at = 0; at < s.size(); at += character_bytes(s, at)) {
    const uint32_t c = code_point(std::string_view(s).substr(at));
    const bool part = is_letter(c) || is_digit(c) || c == '_';
    words += part && !inside;
    inside = part;
  }
  return words;
}

constexpr FilterEntry kTextFilters[] = {
    {"upper", &mapped<&upper>},
    {"lower", &mapped<&lower>},
    {"capitalize", &mapped<&capitalize>},
    {"title", &mapped<&title_words>},
    {"trim", &trim},
    {"replace", &replace_filter},
    {"indent", &indent_filter},
    {"e", &escape},
    {"escape", &escape},
    {"forceescape", &escape},
    {"safe", &safe},
    {"format", &format_filter},
    {"center", &center},
    {"truncate", &truncate},
    {"wordcount", &wordcount},
};

}  // namespace

std::span<const FilterEntry> text_filters() { return kTextFilters; }

}  // namespace braid::jinja
