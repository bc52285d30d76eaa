#pragma once
// Values of a template, with the meaning Python gives them. Strings are shared and counted; every
// other object belongs to the Heap of one render, which also counts work and memory, so that a
// template that runs away ends in an error. Lists and dicts that came in from outside are frozen.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "braid/base/json.h"

namespace braid::jinja {

// What one render may use. Work: one unit is a node evaluated, an element copied or 64 bytes of
// text written.
struct RenderLimits {
  uint64_t work = 100'000'000;
  uint64_t memory = uint64_t{512} << 20;  // bytes of values alive
  uint64_t output = uint64_t{256} << 20;  // bytes of the result
  int depth = 600;                        // expressions, statements and macro calls inside another
};

enum class Kind {
  kUndefined,
  kNone,
  kBool,
  kInt,
  kReal,
  kString,
  kList,
  kTuple,
  kDict,
  kView,  // d.keys(), d.values(), d.items()
  kRange,
  kIterator,  // what map, select ... return: read once, from front to back
  kNamespace,
  kCallable,
  kLoop,
  kCycler,
  kJoiner
};

// Text with the number of bytes alive in its render given back at the end of its life.
struct Text {
  Text(std::string t, uint64_t* counter) : text(std::move(t)), alive(counter) {}
  ~Text() {
    if (alive) *alive -= text.size();
  }
  Text(const Text&) = delete;
  Text& operator=(const Text&) = delete;
  const std::string text;
  uint64_t* const alive;
};
using TextRef = std::shared_ptr<const Text>;

struct Object {
  explicit Object(Kind k) : kind(k) {}
  virtual ~Object() = default;
  const Kind kind;
};

class Value {
 public:
  struct Undefined {
    TextRef why;  // the error of using it
  };
  struct None {};

  Value() : data_(None{}) {}
  Value(bool b) : data_(b) {}                      // NOLINT
  Value(int64_t i) : data_(i) {}                   // NOLINT
  Value(double d) : data_(d) {}                    // NOLINT
  Value(TextRef text) : data_(std::move(text)) {}  // NOLINT
  Value(Object* object) : data_(object) {}         // NOLINT
  Value(Undefined u) : data_(std::move(u)) {}      // NOLINT
  Value(const char*) = delete;                     // would become a bool
  static Value undefined(std::string why) {
    return Undefined{std::make_shared<const Text>(std::move(why), nullptr)};
  }
  static Value constant(std::string text) {  // not counted: parts of the template itself
    return Value(std::make_shared<const Text>(std::move(text), nullptr));
  }

  Kind kind() const {
    return data_.index() < 6 ? static_cast<Kind>(data_.index()) : object()->kind;
  }
  bool is(Kind k) const { return kind() == k; }
  bool is_undefined() const { return data_.index() == 0; }
  bool is_none() const { return data_.index() == 1; }
  bool is_string() const { return data_.index() == 5; }
  bool is_int() const { return data_.index() == 3; }                          // not bool
  bool is_whole() const { return data_.index() == 2 || data_.index() == 3; }  // int or bool
  bool is_number() const { return data_.index() >= 2 && data_.index() <= 4; }

  // Of the kind that the caller has made sure of.
  bool as_bool() const { return std::get<2>(data_); }
  int64_t as_int() const {  // bool too
    return data_.index() == 2 ? int64_t{std::get<2>(data_)} : std::get<3>(data_);
  }
  double as_real() const {  // any number
    return data_.index() == 4 ? std::get<4>(data_) : static_cast<double>(as_int());
  }
  const std::string& text() const { return std::get<5>(data_)->text; }
  Object* object() const { return std::get<6>(data_); }
  template <typename T>
  T& as() const {
    return static_cast<T&>(*object());
  }
  const std::string& why_undefined() const { return std::get<0>(data_).why->text; }

 private:
  std::variant<Undefined, None, bool, int64_t, double, TextRef, Object*> data_;
};

// A list or, with that kind, a tuple.
struct List : Object {
  List(Kind k, std::vector<Value> v) : Object(k), items(std::move(v)) {}
  std::vector<Value> items;
  bool frozen = false;
  std::string_view names[2];  // of a pair made by groupby: "grouper", "list"
};

struct Dict : Object {
  Dict() : Object(Kind::kDict) {}
  std::vector<std::pair<Value, Value>> entries;  // in the order of insertion
  bool frozen = false;
};

struct View : Object {
  enum class Part { kKeys, kValues, kItems };
  View(Dict* d, Part p) : Object(Kind::kView), dict(d), part(p) {}
  Dict* dict;
  Part part;
};

struct Range : Object {
  Range(int64_t a, int64_t b, int64_t c) : Object(Kind::kRange), start(a), stop(b), step(c) {}
  int64_t start, stop, step;
  int64_t size() const;
  int64_t at(int64_t i) const;  // i from 0 to size() - 1
};

struct Iterator : Object {
  explicit Iterator(std::vector<Value> v) : Object(Kind::kIterator), items(std::move(v)) {}
  std::vector<Value> items;
  size_t next = 0;
};

struct Namespace : Object {
  Namespace() : Object(Kind::kNamespace) {}
  Dict attributes;
};

struct Cycler : Object {
  explicit Cycler(std::vector<Value> v) : Object(Kind::kCycler), items(std::move(v)) {}
  std::vector<Value> items;
  size_t at = 0;
};

struct Joiner : Object {
  explicit Joiner(Value s) : Object(Kind::kJoiner), separator(std::move(s)) {}
  Value separator;
  bool used = false;
};

// Thrown by operations on values; the interpreter adds the place in the template.
struct Failure {
  std::string message;
};
[[noreturn]] void fail(std::string message);
[[noreturn]] void fail_undefined(const Value& value);

// Owns the objects of one render and counts what it uses.
class Heap {
 public:
  explicit Heap(const RenderLimits& limits) : limits_(limits) {}
  void work(uint64_t units) {
    work_ += units;
    if (work_ > limits_.work) fail_work();
  }
  void memory(uint64_t bytes);  // objects are never given back before the end
  const RenderLimits& limits() const { return limits_; }

  Value text(std::string s);
  template <typename T, typename... Args>
  T* make(Args&&... args) {
    memory(sizeof(T) + 32);
    auto owned = std::make_unique<T>(std::forward<Args>(args)...);
    T* result = owned.get();
    objects_.push_back(std::move(owned));
    return result;
  }
  Value list(std::vector<Value> items, Kind kind = Kind::kList);
  Value tuple(std::vector<Value> items) { return list(std::move(items), Kind::kTuple); }
  Value iterator(std::vector<Value> items);
  // Counts one more element of a container.
  void element() {
    work(1);
    memory(2 * sizeof(Value));
  }
  Value from_json(const Json& json);  // frozen all through

 private:
  [[noreturn]] void fail_work() const;
  const RenderLimits limits_;
  uint64_t work_ = 0;
  uint64_t alive_ = 0;
  // After alive_, whose count their texts give back.
  std::vector<std::unique_ptr<Object>> objects_;
};

std::string_view type_name(const Value& v);  // Python's: 'int', 'str', 'dict' ...
bool truth(const Value& v);
int64_t length_of(Heap& heap, const Value& v);
bool equal(Heap& heap, const Value& a, const Value& b, int depth = 0);
// -1, 0, 1; 2 when nothing holds (nan). Fails for kinds that have no order between them.
int compare(Heap& heap, const Value& a, const Value& b, int depth = 0);
bool contains(Heap& heap, const Value& container, const Value& item);
void check_hashable(const Value& key);

// A dict's value, or null. Keys are equal as Python's are: 1, 1.0 and True are one key.
Value* find(Heap& heap, Dict& dict, const Value& key);
Value* find(Heap& heap, Dict& dict, std::string_view key);
void put(Heap& heap, Dict& dict, const Value& key, Value value);

// Walks what a value holds: elements, characters, keys. A list that grows meanwhile is followed.
class Iteration {
 public:
  Iteration(Heap& heap, Value source);  // fails for what cannot be walked
  bool next(Value& out);

 private:
  Heap& heap_;
  Value source_;
  size_t at_ = 0;
};
bool iterable(const Value& v);
std::vector<Value> items_of(Heap& heap, const Value& v);

// Texts: what {{ }} prints, and Python's repr.
std::string to_text(Heap& heap, const Value& v);
std::string repr(Heap& heap, const Value& v);
std::string real_text(double d);

struct JsonStyle {
  bool ascii = false;
  bool sort_keys = false;
  bool indented = false;
  std::string indent;
  std::string item_separator = ", ";
  std::string key_separator = ": ";
};
std::string to_json(Heap& heap, const Value& v, const JsonStyle& style);

// Operators of expressions.
enum class Operator { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
Value arithmetic(Heap& heap, Operator op, const Value& a, const Value& b);
Value negate(const Value& v, bool minus);
Value slice(Heap& heap, const Value& v, const Value& start, const Value& stop, const Value& step);

}  // namespace braid::jinja
