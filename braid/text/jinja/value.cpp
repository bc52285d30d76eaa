#include "braid/text/jinja/value.h"

#include <cmath>
#include <limits>

#include "braid/base/format.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {
namespace {

constexpr int kNesting = 150;  // lists in lists: beyond this, compared or printed, is an error

void check_nesting(int depth) {
  if (depth > kNesting) fail(format("values are nested more than {} deep", kNesting));
}

bool same_lists(Heap& heap, const List& a, const List& b, int depth) {
  if (&a == &b) return true;
  if (a.items.size() != b.items.size()) return false;
  for (size_t i = 0; i < a.items.size(); ++i) {
    if (!equal(heap, a.items[i], b.items[i], depth + 1)) return false;
  }
  return true;
}

bool same_dicts(Heap& heap, Dict& a, Dict& b, int depth) {
  if (&a == &b) return true;
  if (a.entries.size() != b.entries.size()) return false;
  for (const auto& [key, value] : a.entries) {
    const Value* other = find(heap, b, key);
    if (!other || !equal(heap, value, *other, depth + 1)) return false;
  }
  return true;
}

int order(long double a, long double b) { return a < b ? -1 : a > b ? 1 : a == b ? 0 : 2; }

long double exact(const Value& v) {  // holds every int64 and every double
  static_assert(std::numeric_limits<long double>::digits >= 64);
  return v.is(Kind::kReal) ? static_cast<long double>(v.as_real())
                           : static_cast<long double>(v.as_int());
}

Value dict_entry(Heap& heap, const View& view, size_t i) {
  const auto& [key, value] = view.dict->entries[i];
  if (view.part == View::Part::kKeys) return key;
  if (view.part == View::Part::kValues) return value;
  return heap.tuple({key, value});
}

}  // namespace

void fail(std::string message) { throw Failure{std::move(message)}; }
void fail_undefined(const Value& value) { fail(value.why_undefined()); }

int64_t Range::size() const {
  if (step > 0 ? start >= stop : start <= stop) return 0;
  const auto span = step > 0 ? static_cast<uint64_t>(stop) - static_cast<uint64_t>(start)
                             : static_cast<uint64_t>(start) - static_cast<uint64_t>(stop);
  const uint64_t stride = step > 0 ? static_cast<uint64_t>(step) : 0 - static_cast<uint64_t>(step);
  return static_cast<int64_t>((span - 1) / stride + 1);
}

int64_t Range::at(int64_t i) const {  // unsigned: i * step may leave 64 bits where the sum does not
  return static_cast<int64_t>(static_cast<uint64_t>(start) +
                              static_cast<uint64_t>(i) * static_cast<uint64_t>(step));
}

void Heap::fail_work() const { fail(format("the template does more than {} steps", limits_.work)); }

void Heap::memory(uint64_t bytes) {
  alive_ += bytes;
  if (alive_ > limits_.memory) {
    fail(format("the template needs more than {} bytes of memory", limits_.memory));
  }
}

Value Heap::text(std::string s) {
  work(1 + s.size() / 64);
  memory(s.size());
  return Value(std::make_shared<const Text>(std::move(s), &alive_));
}

Value Heap::list(std::vector<Value> items, Kind kind) {
  work(items.size());
  memory(items.size() * sizeof(Value));
  return make<List>(kind, std::move(items));
}

Value Heap::iterator(std::vector<Value> items) {
  work(items.size());
  memory(items.size() * sizeof(Value));
  return make<Iterator>(std::move(items));
}

Value Heap::from_json(const Json& json) {
  work(1);
  switch (json.kind()) {
    case Json::Kind::kNull:
      return {};
    case Json::Kind::kBool:
      return json.as_bool();
    case Json::Kind::kInt:
      return json.as_int();
    case Json::Kind::kUint:
      if (json.as_uint() > uint64_t{INT64_MAX}) {
        fail(format("number {} does not fit in 64 bits", json.as_uint()));
      }
      return json.as_int();
    case Json::Kind::kReal:
      return json.as_real();
    case Json::Kind::kString:
      return text(json.as_string());
    case Json::Kind::kArray: {
      List* list = make<List>(Kind::kList, std::vector<Value>{});
      for (const Json& e : json.elements()) {
        element();
        list->items.push_back(from_json(e));
      }
      list->frozen = true;
      return list;
    }
    case Json::Kind::kObject: {
      Dict* dict = make<Dict>();
      for (const auto& [key, value] : json.members()) {  // keys are known to differ
        element();
        Value name = text(key);
        dict->entries.emplace_back(std::move(name), from_json(value));
      }
      dict->frozen = true;
      return dict;
    }
  }
  return {};
}

std::string_view type_name(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
      return "Undefined";
    case Kind::kNone:
      return "NoneType";
    case Kind::kBool:
      return "bool";
    case Kind::kInt:
      return "int";
    case Kind::kReal:
      return "float";
    case Kind::kString:
      return "str";
    case Kind::kList:
      return "list";
    case Kind::kTuple:
      return "tuple";
    case Kind::kDict:
      return "dict";
    case Kind::kView:
      return v.as<View>().part == View::Part::kKeys     ? "dict_keys"
             : v.as<View>().part == View::Part::kValues ? "dict_values"
                                                        : "dict_items";
    case Kind::kRange:
      return "range";
    case Kind::kIterator:
      return "generator";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kCallable:
      return "function";
    case Kind::kLoop:
      return "LoopContext";
    case Kind::kCycler:
      return "Cycler";
    case Kind::kJoiner:
      return "Joiner";
  }
  return "";
}

bool truth(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return false;
    case Kind::kBool:
    case Kind::kInt:
      return v.as_int() != 0;
    case Kind::kReal:
      return v.as_real() != 0;
    case Kind::kString:
      return !v.text().empty();
    case Kind::kList:
    case Kind::kTuple:
      return !v.as<List>().items.empty();
    case Kind::kDict:
      return !v.as<Dict>().entries.empty();
    case Kind::kView:
      return !v.as<View>().dict->entries.empty();
    case Kind::kRange:
      return v.as<Range>().size() != 0;
    default:
      return true;
  }
}

int64_t length_of(Heap& heap, const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
      return 0;
    case Kind::kString:
      heap.work(v.text().size() / 64);
      return count_characters(v.text());
    case Kind::kList:
    case Kind::kTuple:
      return static_cast<int64_t>(v.as<List>().items.size());
    case Kind::kDict:
      return static_cast<int64_t>(v.as<Dict>().entries.size());
    case Kind::kView:
      return static_cast<int64_t>(v.as<View>().dict->entries.size());
    case Kind::kRange:
      return v.as<Range>().size();
    default:
      fail(format("object of type '{}' has no len()", type_name(v)));
  }
}

bool equal(Heap& heap, const Value& a, const Value& b, int depth) {
  check_nesting(depth);
  heap.work(1);
  if (a.is_number() && b.is_number()) return order(exact(a), exact(b)) == 0;
  if (a.kind() != b.kind()) return false;
  switch (a.kind()) {
    case Kind::kUndefined:
    case Kind::kNone:
      return true;
    case Kind::kString:
      if (a.text().size() == b.text().size()) heap.work(a.text().size() / 64);
      return a.text() == b.text();
    case Kind::kList:
    case Kind::kTuple:
      return same_lists(heap, a.as<List>(), b.as<List>(), depth);
    case Kind::kDict:
      return same_dicts(heap, a.as<Dict>(), b.as<Dict>(), depth);
    case Kind::kRange: {
      const Range &x = a.as<Range>(), &y = b.as<Range>();
      const int64_t n = x.size();
      return n == y.size() && (n == 0 || (x.start == y.start && (n == 1 || x.step == y.step)));
    }
    default:
      return a.object() == b.object();
  }
}

int compare(Heap& heap, const Value& a, const Value& b, int depth) {
  check_nesting(depth);
  heap.work(1);
  if (a.is_number() && b.is_number()) return order(exact(a), exact(b));
  if (a.is_string() && b.is_string()) {  // order of UTF-8 bytes = order of code points
    heap.work(std::min(a.text().size(), b.text().size()) / 64);
    const int c = a.text().compare(b.text());
    return c < 0 ? -1 : c > 0;
  }
  if (a.is_undefined()) fail_undefined(a);
  if (b.is_undefined()) fail_undefined(b);
  if (a.kind() != b.kind() || !(a.is(Kind::kList) || a.is(Kind::kTuple))) {
    fail(format("values of '{}' and '{}' have no order", type_name(a), type_name(b)));
  }
  const auto &x = a.as<List>().items, &y = b.as<List>().items;
  for (size_t i = 0; i < x.size() && i < y.size(); ++i) {
    if (!equal(heap, x[i], y[i], depth + 1)) return compare(heap, x[i], y[i], depth + 1);
  }
  return x.size() < y.size() ? -1 : x.size() > y.size();
}

bool contains(Heap& heap, const Value& container, const Value& item) {
  if (container.is_string()) {
    if (!item.is_string()) {
      fail(format("'in <string>' requires string as left operand, not {}", type_name(item)));
    }
    heap.work(1 + container.text().size() / 64);
    return container.text().find(item.text()) != std::string::npos;
  }
  if (container.is(Kind::kDict)) return find(heap, container.as<Dict>(), item) != nullptr;
  if (container.is(Kind::kNamespace) || !iterable(container)) {
    fail(format("argument of type '{}' is not iterable", type_name(container)));
  }
  Iteration each(heap, container);
  for (Value v; each.next(v);) {
    if (equal(heap, v, item)) return true;
  }
  return false;
}

void check_hashable(const Value& key) {
  if (key.is(Kind::kList) || key.is(Kind::kDict)) {
    fail(format("unhashable type: '{}'", type_name(key)));
  }
}

Value* find(Heap& heap, Dict& dict, const Value& key) {
  if (key.is_string()) return find(heap, dict, std::string_view(key.text()));
  check_hashable(key);
  for (auto& [k, v] : dict.entries) {
    if (equal(heap, k, key)) return &v;
  }
  return nullptr;
}

Value* find(Heap& heap, Dict& dict, std::string_view key) {
  heap.work(1 + dict.entries.size() / 8);
  for (auto& [k, v] : dict.entries) {
    if (k.is_string() && k.text() == key) return &v;
  }
  return nullptr;
}

void put(Heap& heap, Dict& dict, const Value& key, Value value) {
  if (Value* old = find(heap, dict, key)) {
    *old = std::move(value);
    return;
  }
  heap.element();
  dict.entries.emplace_back(key, std::move(value));
}

bool iterable(const Value& v) {
  switch (v.kind()) {
    case Kind::kUndefined:
    case Kind::kString:
    case Kind::kList:
    case Kind::kTuple:
    case Kind::kDict:
    case Kind::kView:
    case Kind::kRange:
    case Kind::kIterator:
      return true;
    default:
      return false;
  }
}

Iteration::Iteration(Heap& heap, Value source) : heap_(heap), source_(std::move(source)) {
  if (!iterable(source_)) fail(format("'{}' object is not iterable", type_name(source_)));
}

bool Iteration::next(Value& out) {
  heap_.work(1);
  switch (source_.kind()) {
    case Kind::kString: {
      const std::string& s = source_.text();
      if (at_ >= s.size()) return false;
      const size_t bytes = character_bytes(s, at_);
      out = heap_.text(s.substr(at_, bytes));
      at_ += bytes;
      return true;
    }
    case Kind::kList:
    case Kind::kTuple: {
      const auto& items = source_.as<List>().items;
      if (at_ >= items.size()) return false;
      out = items[at_++];
      return true;
    }
    case Kind::kDict: {
      const auto& entries = source_.as<Dict>().entries;
      if (at_ >= entries.size()) return false;
      out = entries[at_++].first;
      return true;
    }
    case Kind::kView: {
      const View& view = source_.as<View>();
      if (at_ >= view.dict->entries.size()) return false;
      out = dict_entry(heap_, view, at_++);
      return true;
    }
    case Kind::kRange: {
      const Range& r = source_.as<Range>();
      if (static_cast<int64_t>(at_) >= r.size()) return false;
      out = r.at(static_cast<int64_t>(at_++));
      return true;
    }
    case Kind::kIterator: {
      Iterator& it = source_.as<Iterator>();
      if (it.next >= it.items.size()) return false;
      out = it.items[it.next++];
      return true;
    }
    default:
      return false;  // undefined holds nothing
  }
}

std::vector<Value> items_of(Heap& heap, const Value& v) {
  std::vector<Value> items;
  Iteration each(heap, v);
  for (Value item; each.next(item);) {
    // Not counted as memory yet: the caller's list does that. A range is bounded where it is made.
    items.push_back(std::move(item));
  }
  return items;
}

}  // namespace braid::jinja
