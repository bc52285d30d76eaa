// The variable `loop` of a for statement.

#include "braid/base/format.h"
#include "braid/text/jinja/interpreter.h"

namespace braid::jinja {

bool Loop::pull(Value& out) {
  if (read_all_) {
    if (rest_.empty()) return false;
    out = std::move(rest_.back());
    rest_.pop_back();
    return true;
  }
  const Expr* condition = statement.values[1].get();
  while (each.next(out)) {
    if (!condition) return true;
    Scope& scope = in.inner(&outer);
    in.assign(*statement.target, out, scope);
    if (truth(in.evaluate(*condition, scope))) return true;
  }
  return false;
}

bool Loop::next() {
  Value v;
  if (has_after_) {
    v = std::move(after_);
    has_after_ = false;
  } else if (!pull(v)) {
    return false;
  }
  ++index0;
  before = std::exchange(current, std::move(v));
  return true;
}

const Value* Loop::peek() {
  if (!has_after_) has_after_ = pull(after_);
  return has_after_ ? &after_ : nullptr;
}

int64_t Loop::length() {
  if (length_ >= 0) return length_;
  const bool sized = !statement.values[1] && !source.is(Kind::kIterator);
  if (sized) return length_ = length_of(in.heap(), source);
  std::vector<Value> rest;
  for (Value v; pull(v);) {
    in.heap().element();
    rest.push_back(std::move(v));
  }
  rest_.assign(std::make_move_iterator(rest.rbegin()), std::make_move_iterator(rest.rend()));
  read_all_ = true;
  return length_ = static_cast<int64_t>(rest_.size()) + index0 + 1 + (has_after_ ? 1 : 0);
}

Value Interpreter::loop_attribute(Loop& loop, const std::string& name) {
  if (name == "index") return loop.index0 + 1;
  if (name == "index0") return loop.index0;
  if (name == "first") return loop.index0 == 0;
  if (name == "last") return loop.peek() == nullptr;
  if (name == "length") return loop.length();
  if (name == "revindex") return loop.length() - loop.index0;
  if (name == "revindex0") return loop.length() - loop.index0 - 1;
  if (name == "depth") return loop.depth0 + 1;
  if (name == "depth0") return loop.depth0;
  if (name == "previtem") {
    return loop.index0 == 0 ? Value::undefined("there is no previous item") : loop.before;
  }
  if (name == "nextitem") {
    const Value* v = loop.peek();
    return v ? *v : Value::undefined("there is no next item");
  }
  return Value::undefined(format("the loop has no attribute '{}'", name));
}

namespace {

Value cycle(Interpreter&, const Value& self, Args& args) {
  const auto n = static_cast<int64_t>(args.positional.size());
  if (n == 0) fail("no items for cycling given");
  return args.positional[static_cast<size_t>(self.as<Loop>().index0 % n)];
}

Value changed(Interpreter& in, const Value& self, Args& args) {
  Loop& loop = self.as<Loop>();
  const Value now = in.heap().tuple(args.positional);
  const bool same = loop.changed_called && equal(in.heap(), now, loop.last_changed);
  loop.last_changed = now;
  loop.changed_called = true;
  return !same;
}

constexpr Method kLoopMethods[] = {{"cycle", &cycle}, {"changed", &changed}};

}  // namespace

std::span<const Method> loop_methods() { return kLoopMethods; }

}  // namespace braid::jinja
