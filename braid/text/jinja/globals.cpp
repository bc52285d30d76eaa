// Functions every template has.

#include "braid/base/format.h"
#include "braid/text/jinja/interpreter.h"

namespace braid::jinja {
namespace {

constexpr int64_t kLongestRange = 100'000;  // what Jinja's sandbox allows

Value range(Interpreter& in, Args& args) {
  if (args.positional.empty() || args.positional.size() > 3 || !args.named.empty()) {
    fail("range takes 1 to 3 positional arguments");
  }
  const auto& p = args.positional;
  int64_t start = 0, stop = whole_or(p.data(), 0, "range"), step = 1;
  if (p.size() > 1) {
    start = stop;
    stop = whole_or(&p[1], 0, "range");
  }
  if (p.size() > 2) step = whole_or(&p[2], 1, "range");
  if (step == 0) fail("range() arg 3 must not be zero");
  Range* r = in.heap().make<Range>(start, stop, step);
  if (r->size() < 0 || r->size() > kLongestRange) {
    fail(format("a range of more than {} numbers", kLongestRange));
  }
  return r;
}

void add_pairs(Interpreter& in, Dict& dict, const Args& args) {
  if (args.positional.size() > 1) {
    fail(format("{} takes at most 1 positional argument", args.function));
  }
  if (!args.positional.empty()) {
    const Value& given = args.positional[0];
    if (given.is(Kind::kDict)) {
      for (const auto& [key, v] : given.as<Dict>().entries) put(in.heap(), dict, key, v);
    } else {
      Iteration each(in.heap(), given);
      for (Value v; each.next(v);) {
        const auto pair = items_of(in.heap(), v);
        if (pair.size() != 2) fail(format("{} needs pairs", args.function));
        put(in.heap(), dict, pair[0], pair[1]);
      }
    }
  }
  for (const auto& [name, v] : args.named) put(in.heap(), dict, in.heap().text(name), v);
}

Value dict(Interpreter& in, Args& args) {
  Dict* d = in.heap().make<Dict>();
  add_pairs(in, *d, args);
  return d;
}

Value name_space(Interpreter& in, Args& args) {
  Namespace* n = in.heap().make<Namespace>();
  add_pairs(in, n->attributes, args);
  return n;
}

Value cycler(Interpreter& in, Args& args) {
  if (args.positional.empty() || !args.named.empty()) fail("cycler needs items");
  return in.heap().make<Cycler>(args.positional);
}

Value joiner(Interpreter& in, Args& args) {
  const auto a = args.bind({"sep"});
  return in.heap().make<Joiner>(a[0] ? *a[0] : Value::constant(", "));
}

Value raise_exception(Interpreter& in, Args& args) {
  fail(text_or(in.heap(), args.bind({"message"}, 1)[0], ""));
}

Value strftime_now(Interpreter& in, Args& args) {
  const std::string& pattern = text_of(*args.bind({"format"}, 1)[0], "format");
  if (pattern.size() > 1000) fail("a time format is longer than 1000 bytes");
  const std::tm now = in.local_time();
  // One more character, because an empty result looks like one that did not fit.
  std::string text(pattern.size() * 40 + 64, '\0');
  text.resize(std::strftime(text.data(), text.size(), (pattern + "|").c_str(), &now));
  if (text.empty()) fail("a time does not fit its format");
  text.pop_back();
  return in.heap().text(std::move(text));
}

struct GlobalEntry {
  std::string_view name;
  Global function;
};

constexpr GlobalEntry kGlobals[] = {
    {"range", &range},
    {"dict", &dict},
    {"namespace", &name_space},
    {"cycler", &cycler},
    {"joiner", &joiner},
    {"raise_exception", &raise_exception},
    {"strftime_now", &strftime_now},
};

}  // namespace

Global find_global(std::string_view name) {
  for (const GlobalEntry& e : kGlobals) {
    if (e.name == name) return e.function;
  }
  return nullptr;
}

}  // namespace braid::jinja
