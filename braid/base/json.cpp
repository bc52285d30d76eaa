#include "braid/base/json.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

const char* kind_name(Json::Kind kind) {
  switch (kind) {
    case Json::Kind::kNull:
      return "null";
    case Json::Kind::kBool:
      return "a boolean";
    case Json::Kind::kInt:
    case Json::Kind::kUint:
      return "a whole number";
    case Json::Kind::kReal:
      return "a real number";
    case Json::Kind::kString:
      return "a string";
    case Json::Kind::kArray:
      return "an array";
    case Json::Kind::kObject:
      return "an object";
  }
  return "?";
}

[[noreturn]] void wrong_kind(const Json& found, const char* wanted) {
  const bool scalar = !found.is_null() && !found.is_array() && !found.is_object();
  throw Error(ErrorKind::kBadInput,
              format("json: expected {}, found {}{}", wanted, kind_name(found.kind()),
                     scalar ? " " + printable(found.dump()) : ""));
}

// "[json.exception.parse_error.101] parse error at line 1, column 2: ..." without the library's own
// name.
std::string plain_message(std::string_view what) {
  const size_t bracket = what.find("] ");
  if (bracket != what.npos) what = what.substr(bracket + 2);
  return printable(what, 240);
}

bool in_word(char c) {
  return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' ||
         c == '-' || c == '+' || c == '.';
}

// The text with every bare Infinity outside strings as python_infinity(). A sign before it stays a
// part of its word, which is then no JSON.
std::string without_infinity(std::string_view text) {
  constexpr std::string_view kWord = "Infinity";
  const std::string spelt = python_infinity().dump();
  std::string out;
  bool quoted = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const size_t end = i + kWord.size();
    const bool word = !quoted && text[i] == 'I' && text.substr(i, kWord.size()) == kWord &&
                      (i == 0 || !in_word(text[i - 1])) &&
                      (end == text.size() || !in_word(text[end]));
    if (word) {
      out += spelt;
      i = end - 1;
      continue;
    }
    out += text[i];
    if (quoted && text[i] == '\\' && i + 1 < text.size()) {
      out += text[++i];
    } else if (text[i] == '"') {
      quoted = !quoted;
    }
  }
  return out;
}

}  // namespace

// Receives nlohmann's parse events and builds Json values.
class JsonBuilder final : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit JsonBuilder(const JsonLimits& limits) : limits_(limits) {}
  Json take() { return std::move(root_); }

  bool null() override { return add(Json()); }
  bool boolean(bool v) override { return add(Json(v)); }
  bool number_integer(number_integer_t v) override { return add(Json(v)); }
  bool number_unsigned(number_unsigned_t v) override { return add(Json(v)); }
  bool number_float(number_float_t v, const string_t&) override { return add(Json(v)); }
  bool string(string_t& v) override { return add(Json(std::move(v))); }
  bool binary(binary_t&) override { return false; }  // only binary formats have it
  bool start_array(size_t) override { return open(Json::array()); }
  bool start_object(size_t) override { return open(Json::object()); }
  bool key(string_t& v) override {
    keys_.push_back(std::move(v));
    return true;
  }
  bool end_array() override { return close(); }
  bool end_object() override {
    refuse_repeated(open_.back().members());
    return close();
  }
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& e) override {
    throw Error(ErrorKind::kBadInput, "json: " + plain_message(e.what()));
  }

 private:
  bool open(Json container) {
    if (static_cast<int>(open_.size()) == limits_.depth) {
      throw Error(ErrorKind::kBadInput,
                  format("json: nested deeper than {} levels", limits_.depth));
    }
    open_.push_back(std::move(container));
    return true;
  }

  bool close() {
    Json done = std::move(open_.back());
    open_.pop_back();
    return add(std::move(done));
  }

  bool add(Json value) {
    if (open_.empty()) {
      root_ = std::move(value);
    } else if (auto* elements = std::get_if<std::vector<Json>>(&open_.back().value_)) {
      elements->push_back(std::move(value));
    } else {
      auto& members = std::get<std::vector<Json::Member>>(open_.back().value_);
      members.push_back({std::move(keys_.back()), std::move(value)});
      keys_.pop_back();
    }
    return true;
  }

  static void refuse_repeated(const std::vector<Json::Member>& members) {
    std::vector<std::string_view> keys;
    keys.reserve(members.size());
    for (const Json::Member& member : members) keys.push_back(member.key);
    std::sort(keys.begin(), keys.end());
    const auto twice = std::adjacent_find(keys.begin(), keys.end());
    if (twice == keys.end()) return;
    throw Error(ErrorKind::kBadInput, format("json: key '{}' is given twice", printable(*twice)));
  }

  JsonLimits limits_;
  Json root_;
  std::vector<Json> open_;
  std::vector<std::string> keys_;
};

class JsonWriter {
 public:
  // indent < 0: one line.
  explicit JsonWriter(int indent) : indent_(indent) {}

  void write(const Json& json, int level) {
    switch (json.kind()) {
      case Json::Kind::kNull:
        out += "null";
        return;
      case Json::Kind::kBool:
        out += std::get<bool>(json.value_) ? "true" : "false";
        return;
      case Json::Kind::kInt:
        out += std::to_string(std::get<int64_t>(json.value_));
        return;
      case Json::Kind::kUint:
        out += std::to_string(std::get<uint64_t>(json.value_));
        return;
      case Json::Kind::kReal:
        write_real(std::get<double>(json.value_));
        return;
      case Json::Kind::kString:
        write_string(std::get<std::string>(json.value_));
        return;
      case Json::Kind::kArray:
        write_list('[', ']', json.elements(), level,
                   [&](const Json& element) { write(element, level + 1); });
        return;
      case Json::Kind::kObject:
        write_list('{', '}', json.members(), level, [&](const Json::Member& member) {
          write_string(member.key);
          out += indent_ < 0 ? ":" : ": ";
          write(member.value, level + 1);
        });
        return;
    }
  }

  std::string out;

 private:
  void write_real(double value) {
    if (!std::isfinite(value)) {
      out += "null";
      return;
    }
    const std::string text = shortest_text(value);
    out += text;
    // A real that happens to be whole stays a real when read back.
    if (text.find_first_of(".e") == text.npos) out += ".0";
  }

  void write_string(const std::string& text) {
    out += nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  }

  template <typename List, typename WriteOne>
  void write_list(char open, char close, const List& list, int level, WriteOne write_one) {
    out += open;
    for (size_t i = 0; i < list.size(); ++i) {
      if (i > 0) out += ',';
      new_line(level + 1);
      write_one(list[i]);
    }
    if (!list.empty()) new_line(level);
    out += close;
  }

  void new_line(int level) {
    if (indent_ < 0) return;
    out += '\n';
    out.append(static_cast<size_t>(indent_ * level), ' ');
  }

  int indent_;
};

Json::Json() = default;
Json::Json(const Json& other) = default;
Json::Json(Json&& other) noexcept = default;
Json& Json::operator=(const Json& other) = default;
Json& Json::operator=(Json&& other) noexcept = default;
Json::~Json() = default;

Json::Json(std::nullptr_t) {}
Json::Json(double value) : value_(value) {}
Json::Json(const char* text) : value_(std::string(text)) {}
Json::Json(std::string_view text) : value_(std::string(text)) {}
Json::Json(std::string text) : value_(std::move(text)) {}

Json::Json(Kind kind, uint64_t bits) {
  if (kind == Kind::kBool) {
    value_ = bits != 0;
  } else if (kind == Kind::kInt || bits <= static_cast<uint64_t>(INT64_MAX)) {
    // Only what does not fit int64 is stored unsigned, so that equal numbers compare equal.
    value_ = static_cast<int64_t>(bits);
  } else {
    value_ = bits;
  }
}

Json Json::array(std::initializer_list<Json> elements) {
  Json json;
  json.value_ = std::vector<Json>(elements);
  return json;
}

Json Json::object_of(std::vector<Member> members) {
  Json out;
  out.value_ = std::move(members);
  return out;
}

Json Json::object(std::initializer_list<Member> members) {
  Json json;
  json.value_ = std::vector<Member>();
  for (const Member& member : members) json.set(member.key, member.value);
  return json;
}

Json& Json::push(Json element) {
  if (is_null()) value_ = std::vector<Json>();
  if (!is_array()) wrong_kind(*this, "an array");
  std::get<std::vector<Json>>(value_).push_back(std::move(element));
  return *this;
}

Json& Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = std::vector<Member>();
  if (!is_object()) wrong_kind(*this, "an object");
  auto& members = std::get<std::vector<Member>>(value_);
  for (Member& member : members) {
    if (member.key != key) continue;
    member.value = std::move(value);
    return *this;
  }
  members.push_back({std::string(key), std::move(value)});
  return *this;
}

bool Json::as_bool() const {
  if (kind() != Kind::kBool) wrong_kind(*this, "true or false");
  return std::get<bool>(value_);
}

int64_t Json::as_int() const {
  if (kind() == Kind::kUint) wrong_kind(*this, "a whole number below 2^63");
  if (kind() != Kind::kInt) wrong_kind(*this, "a whole number");
  return std::get<int64_t>(value_);
}

uint64_t Json::as_uint() const {
  if (kind() == Kind::kUint) return std::get<uint64_t>(value_);
  const int64_t* value = std::get_if<int64_t>(&value_);
  if (value == nullptr || *value < 0) wrong_kind(*this, "a whole number from 0 on");
  return static_cast<uint64_t>(*value);
}

double Json::as_real() const {
  if (kind() == Kind::kInt) return static_cast<double>(std::get<int64_t>(value_));
  if (kind() == Kind::kUint) return static_cast<double>(std::get<uint64_t>(value_));
  if (kind() != Kind::kReal) wrong_kind(*this, "a number");
  return std::get<double>(value_);
}

const std::string& Json::as_string() const {
  if (!is_string()) wrong_kind(*this, "a string");
  return std::get<std::string>(value_);
}

const std::vector<Json>& Json::elements() const {
  if (!is_array()) wrong_kind(*this, "an array");
  return std::get<std::vector<Json>>(value_);
}

const std::vector<Json::Member>& Json::members() const {
  if (!is_object()) wrong_kind(*this, "an object");
  return std::get<std::vector<Member>>(value_);
}

size_t Json::size() const { return is_array() ? elements().size() : members().size(); }

const Json* Json::find(std::string_view key) const {
  for (const Member& member : members()) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

const Json& Json::at(std::string_view key) const {
  const Json* found = find(key);
  if (found == nullptr) {
    throw Error(ErrorKind::kBadInput, format("json: key '{}' is missing", printable(key)));
  }
  return *found;
}

std::string Json::dump() const {
  JsonWriter writer(-1);
  writer.write(*this, 0);
  return std::move(writer.out);
}

std::string Json::dump_pretty() const {
  JsonWriter writer(2);
  writer.write(*this, 0);
  return std::move(writer.out) + "\n";
}

Json Json::parse(std::string_view text, const JsonLimits& limits) {
  if (text.size() > limits.bytes) {
    throw Error(ErrorKind::kBadInput,
                format("json: {} bytes, the limit is {}", text.size(), limits.bytes));
  }
  // nlohmann takes a NUL for the end of the text and would ignore what follows.
  if (const size_t nul = text.find(char{0}); nul != text.npos) {
    throw Error(ErrorKind::kBadInput, format("json: byte {} is NUL", nul));
  }
  std::string finite;
  if (limits.infinity && text.find("Infinity") != text.npos) {
    finite = without_infinity(text);
    text = finite;
  }
  JsonBuilder builder(limits);
  nlohmann::json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

Json python_infinity() { return Json::object({{"__float__", "Infinity"}}); }

bool Json::operator==(const Json& other) const { return value_ == other.value_; }

}  // namespace braid
