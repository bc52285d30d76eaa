// Methods of lists, tuples, dicts and cyclers.

#include <algorithm>

#include "braid/base/format.h"
#include "braid/text/jinja/interpreter.h"

namespace braid::jinja {
namespace {

std::vector<Value>& items(const Value& self) { return self.as<List>().items; }
Dict& dict(const Value& self) { return self.as<Dict>(); }

Value append(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"object"}, 1);
  in.heap().element();
  items(self).push_back(*a[0]);
  return {};
}

Value extend(Interpreter& in, const Value& self, Args& args) {
  const auto more = items_of(in.heap(), *args.bind({"iterable"}, 1)[0]);
  for (const Value& v : more) {
    in.heap().element();
    items(self).push_back(v);
  }
  return {};
}

Value insert(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"index", "object"}, 2);
  const auto n = static_cast<int64_t>(items(self).size());
  int64_t at = whole_or(a[0], 0, "index");
  at = std::clamp<int64_t>(at < 0 ? at + n : at, 0, n);
  in.heap().element();
  in.heap().work(static_cast<uint64_t>(n) / 4);
  std::vector<Value> longer(items(self).begin(), items(self).begin() + at);
  longer.push_back(*a[1]);
  longer.insert(longer.end(), items(self).begin() + at, items(self).end());
  items(self) = std::move(longer);
  return {};
}

Value pop_item(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"index"});
  const auto n = static_cast<int64_t>(items(self).size());
  int64_t at = whole_or(a[0], -1, "index");
  if (at < 0) at += n;
  if (at < 0 || at >= n) fail(n == 0 ? "pop from empty list" : "pop index out of range");
  in.heap().work(static_cast<uint64_t>(n - at) / 4);
  Value v = std::move(items(self)[static_cast<size_t>(at)]);
  items(self).erase(items(self).begin() + at);
  return v;
}

int64_t place_of(Interpreter& in, const Value& self, const Value& v) {
  for (size_t i = 0; i < items(self).size(); ++i) {
    if (equal(in.heap(), items(self)[i], v)) return static_cast<int64_t>(i);
  }
  fail("the value is not in the list");
}

Value index(Interpreter& in, const Value& self, Args& args) {
  return place_of(in, self, *args.bind({"value"}, 1)[0]);
}

Value remove(Interpreter& in, const Value& self, Args& args) {
  const int64_t at = place_of(in, self, *args.bind({"value"}, 1)[0]);
  in.heap().work(items(self).size() / 4);
  items(self).erase(items(self).begin() + at);
  return {};
}

Value count(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"value"}, 1);
  int64_t n = 0;
  for (const Value& v : items(self)) n += equal(in.heap(), v, *a[0]);
  return n;
}

Value reverse(Interpreter& in, const Value& self, Args& args) {
  args.bind({});
  in.heap().work(items(self).size());
  items(self) = std::vector<Value>(items(self).rbegin(), items(self).rend());
  return {};
}

Value clear_list(Interpreter&, const Value& self, Args& args) {
  args.bind({});
  items(self).clear();
  return {};
}

Value copy_list(Interpreter& in, const Value& self, Args& args) {
  args.bind({});
  return in.heap().list(items(self));
}

Value get(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"key", "default"}, 1);
  if (const Value* v = find(in.heap(), dict(self), *a[0])) return *v;
  return a[1] ? *a[1] : Value();
}

template <View::Part kPart>
Value view(Interpreter& in, const Value& self, Args& args) {
  args.bind({});
  return in.heap().make<View>(&dict(self), kPart);
}

Value pop_key(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"key", "default"}, 1);
  if (Value* v = find(in.heap(), dict(self), *a[0])) {
    Value out = *v;
    auto& entries = dict(self).entries;
    in.heap().work(entries.size() / 4);
    entries.erase(std::find_if(entries.begin(), entries.end(),
                               [&](const auto& e) { return &e.second == v; }));
    return out;
  }
  if (!a[1]) fail(format("key {} is not in the dict", repr(in.heap(), *a[0]).substr(0, 100)));
  return *a[1];
}

Value setdefault(Interpreter& in, const Value& self, Args& args) {
  const auto a = args.bind({"key", "default"}, 1);
  if (const Value* v = find(in.heap(), dict(self), *a[0])) return *v;
  const Value v = a[1] ? *a[1] : Value();
  put(in.heap(), dict(self), *a[0], v);
  return v;
}

Value update(Interpreter& in, const Value& self, Args& args) {
  if (args.positional.size() > 1) fail("update takes at most 1 positional argument");
  if (!args.positional.empty()) {
    const Value& other = args.positional[0];
    if (other.is(Kind::kDict)) {
      const auto entries = other.as<Dict>().entries;
      for (const auto& [key, v] : entries) put(in.heap(), dict(self), key, v);
    } else {
      Iteration each(in.heap(), other);
      for (Value v; each.next(v);) {
        const auto pair = items_of(in.heap(), v);
        if (pair.size() != 2) fail("update needs pairs");
        put(in.heap(), dict(self), pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, v] : args.named) put(in.heap(), dict(self), in.heap().text(name), v);
  return {};
}

Value clear_dict(Interpreter&, const Value& self, Args& args) {
  args.bind({});
  dict(self).entries.clear();
  return {};
}

Value copy_dict(Interpreter& in, const Value& self, Args& args) {
  args.bind({});
  Dict* copy = in.heap().make<Dict>();
  for (const auto& [key, v] : dict(self).entries) {
    in.heap().element();
    copy->entries.emplace_back(key, v);
  }
  return copy;
}

Value next_of_cycle(Interpreter&, const Value& self, Args& args) {
  args.bind({});
  Cycler& c = self.as<Cycler>();
  Value v = c.items[c.at];
  c.at = (c.at + 1) % c.items.size();
  return v;
}

Value reset(Interpreter&, const Value& self, Args& args) {
  args.bind({});
  self.as<Cycler>().at = 0;
  return {};
}

constexpr Method kListMethods[] = {
    {"append", &append, true},    {"extend", &extend, true}, {"insert", &insert, true},
    {"pop", &pop_item, true},     {"remove", &remove, true}, {"reverse", &reverse, true},
    {"clear", &clear_list, true}, {"index", &index},         {"count", &count},
    {"copy", &copy_list},
};
constexpr Method kTupleMethods[] = {{"index", &index}, {"count", &count}};
constexpr Method kDictMethods[] = {
    {"get", &get},
    {"items", &view<View::Part::kItems>},
    {"keys", &view<View::Part::kKeys>},
    {"values", &view<View::Part::kValues>},
    {"pop", &pop_key, true},
    {"setdefault", &setdefault, true},
    {"update", &update, true},
    {"clear", &clear_dict, true},
    {"copy", &copy_dict},
};
constexpr Method kCyclerMethods[] = {{"next", &next_of_cycle}, {"reset", &reset}};

std::span<const Method> methods_of(const Value& v) {
  switch (v.kind()) {
    case Kind::kString:
      return text_methods();
    case Kind::kList:
      return kListMethods;
    case Kind::kTuple:
      return kTupleMethods;
    case Kind::kDict:
      return kDictMethods;
    case Kind::kCycler:
      return kCyclerMethods;
    case Kind::kLoop:
      return loop_methods();
    default:
      return {};
  }
}

}  // namespace

const Method* find_method(const Value& v, std::string_view name) {
  for (const Method& m : methods_of(v)) {
    if (m.name == name) return &m;
  }
  return nullptr;
}

}  // namespace braid::jinja
