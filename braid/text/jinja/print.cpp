// Values as text: what {{ }} prints, Python's repr, and JSON as json.dumps writes it.

#include <algorithm>
#include <charconv>
#include <cmath>

#include "braid/base/format.h"
#include "braid/text/jinja/unicode.h"
#include "braid/text/jinja/value.h"

namespace braid::jinja {
namespace {

constexpr int kNesting = 150;

class Printer {
 public:
  explicit Printer(Heap& heap) : heap_(heap) {}
  void repr(const Value& v, int depth);
  std::string take() { return std::move(out_); }

 private:
  void quoted(const std::string& s);
  void sequence(const char* open, const std::vector<Value>& items, const char* close, int depth);
  void dict(const Dict& d, int depth);
  // Counts what was added since the last call, so that shared parts printed again and again end.
  void count() {
    heap_.work(1 + (out_.size() - counted_) / 64);
    if (out_.size() > heap_.limits().output) {
      fail(format("a text is longer than {} bytes", heap_.limits().output));
    }
    counted_ = out_.size();
  }
  Heap& heap_;
  std::string out_;
  size_t counted_ = 0;
};

void append_escaped(std::string& out, std::string_view character, uint32_t c) {
  const auto byte = static_cast<unsigned char>(character[0]);
  if (c == '\n') {
    out += "\\n";
  } else if (c == '\r') {
    out += "\\r";
  } else if (c == '\t') {
    out += "\\t";
  } else if (c == 0xFFFD && character.size() == 1) {
    out += format("\\x{:02x}", byte);
  } else if (is_printable(c)) {
    out += character;
  } else {
    out += c < 0x100     ? format("\\x{:02x}", c)
           : c < 0x10000 ? format("\\u{:04x}", c)
                         : format("\\U{:08x}", c);
  }
}

void Printer::quoted(const std::string& s) {
  const bool single = s.find('\'') == std::string::npos || s.find('"') != std::string::npos;
  const char quote = single ? '\'' : '"';
  out_ += quote;
  for (size_t at = 0; at < s.size();) {
    const size_t bytes = character_bytes(s, at);
    const std::string_view character = std::string_view(s).substr(at, bytes);
    if (s[at] == quote || s[at] == '\\') {
      out_ += '\\';
      out_ += s[at];
    } else {
      append_escaped(out_, character, code_point(character));
    }
    at += bytes;
  }
  out_ += quote;
}

void Printer::sequence(const char* open, const std::vector<Value>& items, const char* close,
                       int depth) {
  out_ += open;
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out_ += ", ";
    repr(items[i], depth + 1);
  }
  out_ += close;
}

void Printer::dict(const Dict& d, int depth) {
  out_ += '{';
  for (size_t i = 0; i < d.entries.size(); ++i) {
    if (i > 0) out_ += ", ";
    repr(d.entries[i].first, depth + 1);
    out_ += ": ";
    repr(d.entries[i].second, depth + 1);
  }
  out_ += '}';
}

void Printer::repr(const Value& v, int depth) {
  if (depth > kNesting) fail(format("values are nested more than {} deep", kNesting));
  switch (v.kind()) {
    case Kind::kUndefined:
      out_ += "Undefined";
      break;
    case Kind::kNone:
      out_ += "None";
      break;
    case Kind::kBool:
      out_ += v.as_bool() ? "True" : "False";
      break;
    case Kind::kInt:
      out_ += format("{}", v.as_int());
      break;
    case Kind::kReal:
      out_ += real_text(v.as_real());
      break;
    case Kind::kString:
      quoted(v.text());
      break;
    case Kind::kList:
      sequence("[", v.as<List>().items, "]", depth);
      break;
    case Kind::kTuple:
      sequence("(", v.as<List>().items, v.as<List>().items.size() == 1 ? ",)" : ")", depth);
      break;
    case Kind::kDict:
      dict(v.as<Dict>(), depth);
      break;
    case Kind::kView:
      out_ += type_name(v);
      sequence("([", items_of(heap_, v), "])", depth);
      break;
    case Kind::kRange: {
      const Range& r = v.as<Range>();
      out_ += r.step == 1 ? format("range({}, {})", r.start, r.stop)
                          : format("range({}, {}, {})", r.start, r.stop, r.step);
      break;
    }
    case Kind::kNamespace:
      out_ += "<Namespace ";
      dict(v.as<Namespace>().attributes, depth);
      out_ += '>';
      break;
    default:
      out_ += format("<{}>", type_name(v));
  }
  count();
}

class JsonPrinter {
 public:
  JsonPrinter(Heap& heap, const JsonStyle& style) : heap_(heap), style_(style) {}
  void value(const Value& v, int depth);
  std::string take() { return std::move(out_); }

 private:
  void text(std::string_view s);
  void key(const Value& v);
  void list(const std::vector<Value>& items, int depth);
  void dict(const Dict& d, int depth);
  void line(int depth) {
    if (!style_.indented) return;
    out_ += '\n';
    for (int i = 0; i < depth; ++i) out_ += style_.indent;
  }
  void count() {
    heap_.work(1 + (out_.size() - counted_) / 64);
    if (out_.size() > heap_.limits().output) {
      fail(format("a text is longer than {} bytes", heap_.limits().output));
    }
    counted_ = out_.size();
  }
  Heap& heap_;
  const JsonStyle& style_;
  std::string out_;
  size_t counted_ = 0;
};

std::string json_real(double d) {
  if (std::isnan(d)) return "NaN";
  if (std::isinf(d)) return d > 0 ? "Infinity" : "-Infinity";
  return real_text(d);
}

void append_json_unit(std::string& out, uint32_t c) {
  if (c >= 0x10000) {
    out += format("\\u{:04x}\\u{:04x}", 0xD800 + ((c - 0x10000) >> 10),
                  0xDC00 + ((c - 0x10000) & 0x3FF));
  } else {
    out += format("\\u{:04x}", c);
  }
}

void JsonPrinter::text(std::string_view s) {
  static constexpr std::string_view kShort = "\"\\\n\r\t\b\f";
  static constexpr std::string_view kLetters = "\"\\nrtbf";
  out_ += '"';
  for (size_t at = 0; at < s.size();) {
    const size_t bytes = character_bytes(s, at);
    const auto c = static_cast<unsigned char>(s[at]);
    if (const size_t i = kShort.find(s[at]); i != std::string_view::npos) {
      out_ += '\\';
      out_ += kLetters[i];
    } else if (c < 0x20 || (style_.ascii && c >= 0x7F)) {
      // 0x7F itself is plain to json.dumps
      if (c == 0x7F) {
        out_ += s[at];
      } else {
        append_json_unit(out_, code_point(s.substr(at, bytes)));
      }
    } else {
      out_ += s.substr(at, bytes);
    }
    at += bytes;
  }
  out_ += '"';
}

void JsonPrinter::key(const Value& v) {
  switch (v.kind()) {
    case Kind::kString:
      return text(v.text());
    case Kind::kBool:
      return text(v.as_bool() ? "true" : "false");
    case Kind::kNone:
      return text("null");
    case Kind::kInt:
      return text(format("{}", v.as_int()));
    case Kind::kReal:
      return text(json_real(v.as_real()));
    default:
      fail(format("keys of JSON must be str, int, float, bool or None, not {}", type_name(v)));
  }
}

void JsonPrinter::list(const std::vector<Value>& items, int depth) {
  if (items.empty()) {
    out_ += "[]";
    return;
  }
  out_ += '[';
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) out_ += style_.item_separator;
    line(depth + 1);
    value(items[i], depth + 1);
  }
  line(depth);
  out_ += ']';
}

void JsonPrinter::dict(const Dict& d, int depth) {
  if (d.entries.empty()) {
    out_ += "{}";
    return;
  }
  std::vector<const std::pair<Value, Value>*> entries;
  for (const auto& e : d.entries) entries.push_back(&e);
  if (style_.sort_keys) {
    std::stable_sort(entries.begin(), entries.end(), [&](const auto* a, const auto* b) {
      return compare(heap_, a->first, b->first) == -1;
    });
  }
  out_ += '{';
  for (size_t i = 0; i < entries.size(); ++i) {
    if (i > 0) out_ += style_.item_separator;
    line(depth + 1);
    key(entries[i]->first);
    out_ += style_.key_separator;
    value(entries[i]->second, depth + 1);
  }
  line(depth);
  out_ += '}';
}

void JsonPrinter::value(const Value& v, int depth) {
  if (depth > kNesting) fail(format("values are nested more than {} deep", kNesting));
  switch (v.kind()) {
    case Kind::kNone:
      out_ += "null";
      break;
    case Kind::kBool:
      out_ += v.as_bool() ? "true" : "false";
      break;
    case Kind::kInt:
      out_ += format("{}", v.as_int());
      break;
    case Kind::kReal:
      out_ += json_real(v.as_real());
      break;
    case Kind::kString:
      text(v.text());
      break;
    case Kind::kList:
    case Kind::kTuple:
      list(v.as<List>().items, depth);
      break;
    case Kind::kDict:
      dict(v.as<Dict>(), depth);
      break;
    default:
      fail(format("object of type {} is not JSON serializable", type_name(v)));
  }
  count();
}

}  // namespace

std::string real_text(double d) {
  if (std::isnan(d)) return "nan";
  if (std::isinf(d)) return d > 0 ? "inf" : "-inf";
  // The shortest digits that read back; Python shows an exponent outside of 1e-4 .. 1e16.
  const double size = std::fabs(d);
  const bool plain = size == 0 || (size >= 1e-4 && size < 1e16);
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof(buffer), d,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string repr(Heap& heap, const Value& v) {
  Printer printer(heap);
  printer.repr(v, 0);
  return printer.take();
}

std::string to_text(Heap& heap, const Value& v) {
  if (v.is_string()) return v.text();
  if (v.is_undefined()) return "";
  return repr(heap, v);
}

std::string to_json(Heap& heap, const Value& v, const JsonStyle& style) {
  JsonPrinter printer(heap, style);
  printer.value(v, 0);
  return printer.take();
}

}  // namespace braid::jinja
