#pragma once
// JSON values: built for --json output and JSONL logs, parsed from configs and safetensors headers.
// Whole numbers of 64 bits are exact, members keep their order, and reals are printed with the
// fewest digits that read back the same.

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <type_traits>
#include <variant>
#include <vector>

namespace braid {

struct JsonLimits {
  size_t bytes = size_t{100} << 20;
  int depth = 128;
  bool infinity = false;  // Python's Infinity is read as python_infinity(); else bad syntax
};

class Json {
 public:
  struct Member;  // {key, value}
  enum class Kind { kNull, kBool, kInt, kUint, kReal, kString, kArray, kObject };

  Json();  // null
  Json(const Json& other);
  Json(Json&& other) noexcept;
  Json& operator=(const Json& other);
  Json& operator=(Json&& other) noexcept;
  ~Json();
  // Implicit on purpose: values are written in place.
  Json(std::nullptr_t);         // NOLINT
  Json(double value);           // NOLINT
  Json(const char* text);       // NOLINT
  Json(std::string_view text);  // NOLINT
  Json(std::string text);       // NOLINT
  template <std::integral T>    // bool among them
  Json(T value)                 // NOLINT
      : Json(std::same_as<T, bool> ? Kind::kBool
             : std::is_signed_v<T> ? Kind::kInt
                                   : Kind::kUint,
             static_cast<uint64_t>(value)) {}
  static Json array(std::initializer_list<Json> elements = {});
  static Json object(std::initializer_list<Member> members = {});
  static Json object_of(std::vector<Member> members);  // large ones; the keys must differ

  // Appends to an array, or to null, which becomes one. Returns *this.
  Json& push(Json element);
  // Sets a member of an object, or of null, which becomes one; an old value of the key is replaced
  // in its place.
  Json& set(std::string_view key, Json value);

  Kind kind() const { return static_cast<Kind>(value_.index()); }
  bool is_null() const { return kind() == Kind::kNull; }
  bool is_string() const { return kind() == Kind::kString; }
  bool is_array() const { return kind() == Kind::kArray; }
  bool is_object() const { return kind() == Kind::kObject; }
  bool is_int() const { return kind() == Kind::kInt || kind() == Kind::kUint; }
  bool is_number() const { return is_int() || kind() == Kind::kReal; }

  // The value as the type asked for; any other kind (or an int out of range) throws
  // Error(kBadInput) with both.
  bool as_bool() const;
  int64_t as_int() const;
  uint64_t as_uint() const;
  double as_real() const;  // whole numbers too
  const std::string& as_string() const;
  const std::vector<Json>& elements() const;
  const std::vector<Member>& members() const;

  size_t size() const;  // of an array or an object
  // A member by linear search (walk members() of large objects instead): null where missing ...
  const Json* find(std::string_view key) const;
  // ... or Error(kBadInput) naming it.
  const Json& at(std::string_view key) const;

  // One line without blanks. Control characters are escaped, broken UTF-8 becomes U+FFFD, nan and
  // inf become null.
  std::string dump() const;
  std::string dump_pretty() const;  // two blanks a level, newline at the end

  // The whole text must be one value. Throws Error(kBadInput) for bad syntax (line and column), a
  // repeated key, or more than the limits. Whole numbers above 64 bits become reals.
  static Json parse(std::string_view text, const JsonLimits& limits = {});

  bool operator==(const Json& other) const;

 private:
  Json(Kind kind, uint64_t bits);
  friend class JsonBuilder;
  friend class JsonWriter;
  std::variant<std::nullptr_t, bool, int64_t, uint64_t, double, std::string, std::vector<Json>,
               std::vector<Member>>
      value_;
};

struct Json::Member {
  std::string key;
  Json value;
  bool operator==(const Member& other) const { return key == other.key && value == other.value; }
};

// {"__float__": "Infinity"}, as which newer writers of configs spell a number that JSON lacks.
Json python_infinity();

}  // namespace braid
