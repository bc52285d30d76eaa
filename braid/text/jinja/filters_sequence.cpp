#include <algorithm>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/jinja/interpreter.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {
namespace {

Value length(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  return v.is(Kind::kLoop) ? Value(v.as<Loop>().length()) : Value(length_of(in.heap(), v));
}

// "a.b.0" of an element; a whole number stands for an index.
class Getter {
 public:
  Getter(Interpreter& in, const Value* attribute, const Value* other = nullptr, bool fold = false)
      : in_(in), other_(other && !other->is_none() ? other : nullptr), fold_(fold) {
    if (!attribute || attribute->is_none()) return;
    if (!attribute->is_string()) {
      path_.push_back(*attribute);
      return;
    }
    const std::string& text = attribute->text();
    for (size_t at = 0; at <= text.size();) {
      const size_t end = std::min(text.find('.', at), text.size());
      const std::string part = text.substr(at, end - at);
      const bool digits = !part.empty() && part.size() < 10 &&
                          part.find_first_not_of("0123456789") == std::string::npos;
      path_.push_back(digits ? Value(int64_t{std::stoi(part)}) : Value::constant(part));
      at = end + 1;
    }
  }
  Value operator()(Value v) const {
    for (const Value& key : path_) {
      v = in_.item(v, key);
      if (other_ && v.is_undefined()) v = *other_;
    }
    if (fold_ && v.is_string()) return in_.heap().text(lower(v.text()));
    return v;
  }

 private:
  Interpreter& in_;
  const Value* other_;
  bool fold_;
  std::vector<Value> path_;
};

Value join(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"d", "attribute"});
  const std::string between = text_or(in.heap(), a[0], "");
  const Getter get(in, a[1]);
  std::string out;
  bool first = true;
  Iteration each(in.heap(), v);
  for (Value item; each.next(item);) {
    if (!first) out += between;
    first = false;
    const std::string text = to_text(in.heap(), get(item));
    in.heap().work(1 + (text.size() + between.size()) / 64);
    out += text;
    if (out.size() > in.heap().limits().output) fail("a joined text is too long");
  }
  return in.heap().text(std::move(out));
}

Value first(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  Value item;
  if (Iteration(in.heap(), v).next(item)) return item;
  return Value::undefined("No first item, sequence was empty.");
}

Value last(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  if (v.is(Kind::kIterator)) fail("'generator' object is not reversible");
  if (v.is_string() || v.is(Kind::kList) || v.is(Kind::kTuple) || v.is(Kind::kRange)) {
    if (truth(v)) return in.item(v, int64_t{-1});
  } else {
    auto items = items_of(in.heap(), v);
    if (!items.empty()) return items.back();
  }
  return Value::undefined("No last item, sequence was empty.");
}

Value list(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  return in.heap().list(items_of(in.heap(), v));
}

Value reverse(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  if (v.is_string()) return slice(in.heap(), v, {}, {}, int64_t{-1});
  auto items = items_of(in.heap(), v);
  std::reverse(items.begin(), items.end());
  return in.heap().iterator(std::move(items));
}

Value items(Interpreter& in, const Value& v, Args& args) {
  args.bind({});
  if (v.is_undefined()) return in.heap().iterator({});
  if (!v.is(Kind::kDict)) fail("items needs a dict");
  const Value view = in.heap().make<View>(&v.as<Dict>(), View::Part::kItems);
  return in.heap().iterator(items_of(in.heap(), view));
}

// Sorts by keys; equals stay in their order, also when reversed.
std::vector<Value> sorted(Interpreter& in, std::vector<Value> values, std::vector<Value> keys,
                          bool backwards) {
  std::vector<size_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return backwards ? compare(in.heap(), keys[b], keys[a]) == -1
                     : compare(in.heap(), keys[a], keys[b]) == -1;
  });
  std::vector<Value> out;
  out.reserve(values.size());
  for (size_t i : order) out.push_back(std::move(values[i]));
  return out;
}

Value dictsort(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"case_sensitive", "by", "reverse"});
  const std::string by = text_or(in.heap(), a[1], "key");
  if (by != "key" && by != "value") fail("dictsort sorts by 'key' or 'value'");
  if (!v.is(Kind::kDict)) {
    fail(format("dictsort needs a dict, not '{}'", type_name(v)));
  }
  std::vector<Value> pairs, keys;
  const Value place = int64_t{by == "value"};
  const Getter get(in, &place, nullptr, !truth_or(a[0], false));
  for (const auto& [key, value] : v.as<Dict>().entries) {
    pairs.push_back(in.heap().tuple({key, value}));
    keys.push_back(get(pairs.back()));
  }
  return in.heap().list(sorted(in, std::move(pairs), std::move(keys), truth_or(a[2], false)));
}

Value sort(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"reverse", "case_sensitive", "attribute"});
  const bool fold = !truth_or(a[1], false);
  std::vector<Getter> getters;
  if (a[2] && a[2]->is_string()) {  // several, with commas
    for (const std::string_view name : braid::split(a[2]->text(), ',')) {
      const Value part = in.heap().text(std::string(name));
      getters.emplace_back(in, &part, nullptr, fold);
    }
  } else {
    getters.emplace_back(in, a[2], nullptr, fold);
  }
  auto values = items_of(in.heap(), v);
  std::vector<Value> keys;
  for (const Value& item : values) {
    std::vector<Value> parts;
    for (const Getter& get : getters) parts.push_back(get(item));
    keys.push_back(parts.size() == 1 ? parts[0] : in.heap().list(std::move(parts)));
  }
  return in.heap().list(sorted(in, std::move(values), std::move(keys), truth_or(a[0], false)));
}

Value unique(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"case_sensitive", "attribute"});
  const Getter get(in, a[1], nullptr, !truth_or(a[0], false));
  std::vector<Value> seen, out;
  Iteration each(in.heap(), v);
  for (Value item; each.next(item);) {
    const Value key = get(item);
    check_hashable(key);
    const bool known = std::any_of(seen.begin(), seen.end(),
                                   [&](const Value& s) { return equal(in.heap(), s, key); });
    if (known) continue;
    seen.push_back(key);
    out.push_back(item);
  }
  return in.heap().iterator(std::move(out));
}

template <int kSign>
Value extreme(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"case_sensitive", "attribute"});
  const Getter get(in, a[1], nullptr, !truth_or(a[0], false));
  Value best, best_key;
  bool any = false;
  Iteration each(in.heap(), v);
  for (Value item; each.next(item);) {
    const Value key = get(item);
    if (any && compare(in.heap(), key, best_key) != kSign) continue;
    best = item;
    best_key = key;
    any = true;
  }
  return any ? best : Value::undefined("No aggregated item, sequence was empty.");
}

Value sum(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"attribute", "start"});
  const Getter get(in, a[0]);
  Value total = a[1] ? *a[1] : Value(int64_t{0});
  if (total.is_string()) fail("sum does not add strings");
  Iteration each(in.heap(), v);
  for (Value item; each.next(item);) {
    total = arithmetic(in.heap(), Operator::kAdd, total, get(item));
  }
  return total;
}

Value groupby(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"attribute", "default", "case_sensitive"}, 1);
  const bool fold = !truth_or(a[2], false);
  const Getter get(in, a[0], a[1], fold), shown(in, a[0], a[1]);
  auto values = items_of(in.heap(), v);
  std::vector<Value> keys;
  for (const Value& item : values) keys.push_back(get(item));
  values = sorted(in, std::move(values), std::move(keys), false);
  std::vector<Value> groups;
  Value key;
  for (const Value& item : values) {
    const Value own = get(item);
    if (groups.empty() || !equal(in.heap(), key, own)) {
      key = own;
      List* pair =
          in.heap().make<List>(Kind::kTuple, std::vector<Value>{shown(item), in.heap().list({})});
      pair->names[0] = "grouper";
      pair->names[1] = "list";
      groups.push_back(pair);
    }
    in.heap().element();
    groups.back().as<List>().items[1].as<List>().items.push_back(item);
  }
  return in.heap().list(std::move(groups));
}

Value batch(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"linecount", "fill_with"}, 1);
  const int64_t n = whole_or(a[0], 1, "linecount");
  std::vector<Value> out, row;
  Iteration each(in.heap(), v);
  for (Value item; each.next(item);) {
    if (static_cast<int64_t>(row.size()) == n) {
      out.push_back(in.heap().list(std::move(row)));
      row.clear();
    }
    row.push_back(item);
  }
  if (!row.empty()) {
    if (a[1] && !a[1]->is_none()) {
      while (static_cast<int64_t>(row.size()) < n) {
        in.heap().element();
        row.push_back(*a[1]);
      }
    }
    out.push_back(in.heap().list(std::move(row)));
  }
  return in.heap().iterator(std::move(out));
}

Value slice_filter(Interpreter& in, const Value& v, Args& args) {
  const auto a = args.bind({"slices", "fill_with"}, 1);
  const int64_t slices = whole_or(a[0], 1, "slices");
  if (slices <= 0) fail("slices must be above 0");
  const auto all = items_of(in.heap(), v);
  const auto n = static_cast<int64_t>(all.size());
  std::vector<Value> out;
  size_t at = 0;
  for (int64_t i = 0; i < slices; ++i) {
    const auto count = static_cast<size_t>(n / slices + (i < n % slices));
    std::vector<Value> part(all.begin() + static_cast<std::ptrdiff_t>(at),
                            all.begin() + static_cast<std::ptrdiff_t>(at + count));
    if (a[1] && !a[1]->is_none() && i >= n % slices) part.push_back(*a[1]);
    at += count;
    in.heap().element();
    out.push_back(in.heap().list(std::move(part)));
  }
  return in.heap().iterator(std::move(out));
}

Value map(Interpreter& in, const Value& v, Args& args) {
  std::vector<Value> out;
  Iteration each(in.heap(), v);
  if (args.positional.empty()) {
    const auto a = args.bind({"attribute", "default"}, 1);
    const Getter get(in, a[0], a[1]);
    for (Value item; each.next(item);) out.push_back(get(item));
    return in.heap().iterator(std::move(out));
  }
  const std::string& name = text_of(args.positional[0], "map's filter");
  const Filter filter = find_filter(name);
  if (!filter) fail(format("filter '{}' is not supported", name.substr(0, 100)));
  Nested nested(in);
  for (Value item; each.next(item);) {
    Args own(name);
    own.positional.assign(args.positional.begin() + 1, args.positional.end());
    own.named = args.named;
    out.push_back(filter(in, item, own));
  }
  return in.heap().iterator(std::move(out));
}

template <bool kByAttribute, bool kKeep>
Value choose(Interpreter& in, const Value& v, Args& args) {
  constexpr size_t kSkip = kByAttribute ? 1 : 0;
  if (args.positional.size() < kSkip) fail(format("{} needs an attribute", args.function));
  const Getter get(in, kByAttribute ? args.positional.data() : nullptr);
  Test test = nullptr;
  if (args.positional.size() > kSkip) {
    const std::string& name = text_of(args.positional[kSkip], "a test's name");
    test = find_test(name);
    if (!test) fail(format("test '{}' is not supported", name.substr(0, 100)));
  }
  std::vector<Value> out;
  Iteration each(in.heap(), v);
  for (Value item; each.next(item);) {
    const Value asked = get(item);
    bool holds = false;
    if (test) {
      Args own(args.positional[kSkip].text());
      own.positional.assign(args.positional.begin() + kSkip + 1, args.positional.end());
      own.named = args.named;
      holds = test(in, asked, own);
    } else {
      holds = truth(asked);
    }
    if (holds == kKeep) out.push_back(item);
  }
  return in.heap().iterator(std::move(out));
}

constexpr FilterEntry kSequenceFilters[] = {
    {"length", &length},
    {"count", &length},
    {"join", &join},
    {"first", &first},
    {"last", &last},
    {"list", &list},
    {"reverse", &reverse},
    {"items", &items},
    {"dictsort", &dictsort},
    {"sort", &sort},
    {"unique", &unique},
    {"min", &extreme<-1>},
    {"max", &extreme<1>},
    {"sum", &sum},
    {"groupby", &groupby},
    {"batch", &batch},
    {"slice", &slice_filter},
    {"map", &map},
    {"select", &choose<false, true>},
    {"reject", &choose<false, false>},
    {"selectattr", &choose<true, true>},
    {"rejectattr", &choose<true, false>},
};

}  // namespace

std::span<const FilterEntry> sequence_filters() { return kSequenceFilters; }

}  // namespace braid::jinja
