#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/text/jinja/interpreter.h"
#include "braid/text/jinja/unicode.h"

namespace braid::jinja {
namespace {

struct GlobalFunction : Callable {
  GlobalFunction(std::string_view name, Global f) : Callable(name), function(f) {}
  Value call(Interpreter& in, Args& args) override { return function(in, args); }
  Global function;
};

struct BoundMethod : Callable {
  BoundMethod(Value s, const Method& m) : Callable(m.name), self(std::move(s)), method(m) {}
  Value call(Interpreter& in, Args& args) override {
    const bool frozen = (self.is(Kind::kList) && self.as<List>().frozen) ||
                        (self.is(Kind::kDict) && self.as<Dict>().frozen);
    if (method.changes && frozen) {
      fail(format("'{}' would change a {} that was passed in", method.name, type_name(self)));
    }
    return method.call(in, self, args);
  }
  Value self;
  const Method& method;
};

// How Jinja calls a value in its messages.
std::string object_name(const Value& v) {
  return v.is_none() ? "None" : format("{} object", type_name(v));
}

Value undefined_item(const Value& v, const Value& key, Heap& heap) {
  if (key.is_string()) {
    return Value::undefined(
        format("'{}' has no attribute '{}'", object_name(v), key.text().substr(0, 100)));
  }
  return Value::undefined(
      format("'{}' has no element {}", object_name(v), repr(heap, key).substr(0, 100)));
}

bool holds(Heap& heap, Comparison c, const Value& a, const Value& b) {
  switch (c) {
    case Comparison::kEq:
      return equal(heap, a, b);
    case Comparison::kNe:
      return !equal(heap, a, b);
    case Comparison::kLt:
      return compare(heap, a, b) == -1;
    case Comparison::kGt:
      return compare(heap, a, b) == 1;
    case Comparison::kLe: {
      const int order = compare(heap, a, b);
      return order == -1 || order == 0;
    }
    case Comparison::kGe: {
      const int order = compare(heap, a, b);
      return order == 1 || order == 0;
    }
    case Comparison::kIn:
      return contains(heap, b, a);
    case Comparison::kNotIn:
      return !contains(heap, b, a);
  }
  return false;
}

}  // namespace

Value Interpreter::name(const Expr& e, Scope& scope) {
  for (Scope* s = &scope; s; s = s->parent) {
    for (const auto& [number, value] : s->variables) {
      if (number == e.name) return value;
    }
  }
  if (const Global f = find_global(e.text)) return heap_.make<GlobalFunction>(e.text, f);
  return Value::undefined(format("'{}' is undefined", e.text));
}

Value Interpreter::container(const Expr& e, Scope& scope) {
  if (e.kind == Expr::Kind::kDict) {
    Dict* dict = heap_.make<Dict>();
    for (size_t i = 0; i < e.children.size(); i += 2) {
      const Value key = evaluate(*e.children[i], scope);
      Value v = evaluate(*e.children[i + 1], scope);
      where_ = e.where;
      put(heap_, *dict, key, std::move(v));
    }
    return dict;
  }
  std::vector<Value> items;
  for (const auto& child : e.children) items.push_back(evaluate(*child, scope));
  return heap_.list(std::move(items), e.kind == Expr::Kind::kList ? Kind::kList : Kind::kTuple);
}

Value Interpreter::compare_chain(const Expr& e, Scope& scope) {
  Value left = evaluate(*e.children[0], scope);
  for (size_t i = 0; i < e.comparisons.size(); ++i) {
    Value right = evaluate(*e.children[i + 1], scope);
    where_ = e.where;
    if (!holds(heap_, e.comparisons[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::concat(const Expr& e, Scope& scope) {
  std::string text;
  for (const auto& child : e.children) {
    const Value v = evaluate(*child, scope);
    where_ = e.where;
    text += to_text(heap_, v);
    heap_.work(1 + text.size() / 1024);
    if (text.size() > heap_.limits().output) {
      fail(format("a text is longer than {} bytes", heap_.limits().output));
    }
  }
  return heap_.text(std::move(text));
}

Value Interpreter::evaluate(const Expr& e, Scope& scope) {
  Nested nested(*this);
  heap_.work(1);
  const auto child = [&](size_t i) {
    return e.children[i] ? evaluate(*e.children[i], scope) : Value();
  };
  switch (e.kind) {
    case Expr::Kind::kConstant:
      return e.value;
    case Expr::Kind::kName:
      where_ = e.where;
      return name(e, scope);
    case Expr::Kind::kList:
    case Expr::Kind::kTuple:
    case Expr::Kind::kDict:
      return container(e, scope);
    case Expr::Kind::kOr: {
      Value left = child(0);
      return truth(left) ? left : child(1);
    }
    case Expr::Kind::kAnd: {
      Value left = child(0);
      return truth(left) ? child(1) : left;
    }
    case Expr::Kind::kNot:
      return !truth(child(0));
    case Expr::Kind::kNegate:
    case Expr::Kind::kPlus: {
      const Value v = child(0);
      where_ = e.where;
      return negate(v, e.kind == Expr::Kind::kNegate);
    }
    case Expr::Kind::kArithmetic: {
      const Value a = child(0), b = child(1);
      where_ = e.where;
      return arithmetic(heap_, e.op, a, b);
    }
    case Expr::Kind::kConcat:
      return concat(e, scope);
    case Expr::Kind::kCompare:
      return compare_chain(e, scope);
    case Expr::Kind::kConditional:
      if (truth(child(1))) return child(0);
      return e.children[2] ? child(2) : Value::undefined("an 'if' without 'else' was false");
    case Expr::Kind::kAttribute: {
      const Value v = child(0);
      where_ = e.where;
      return attribute(v, e.text);
    }
    case Expr::Kind::kItem: {
      const Value v = child(0), key = child(1);
      where_ = e.where;
      return item(v, key);
    }
    case Expr::Kind::kSlice: {
      const Value v = child(0), start = child(1), stop = child(2), step = child(3);
      where_ = e.where;
      return slice(heap_, v, start, stop, step);
    }
    case Expr::Kind::kCall:
      return call_expression(e, scope);
    case Expr::Kind::kFilter:
      return apply_filter(e, child(0), scope);
    case Expr::Kind::kTest: {
      const Value v = child(0);
      Args args(e.text);
      fill(args, e.arguments.get(), scope);
      where_ = e.where;
      return e.test(*this, v, args);
    }
  }
  return {};
}

void Interpreter::fill(Args& args, const CallArguments* arguments, Scope& scope) {
  if (!arguments) return;
  for (const auto& a : arguments->positional) args.positional.push_back(evaluate(*a, scope));
  if (arguments->star) {
    const Value more = evaluate(*arguments->star, scope);
    Iteration each(heap_, more);
    for (Value v; each.next(v);) {
      heap_.element();
      args.positional.push_back(std::move(v));
    }
  }
  for (const auto& [name, a] : arguments->named) {
    args.named.emplace_back(name, evaluate(*a, scope));
  }
  if (arguments->double_star) {
    const Value more = evaluate(*arguments->double_star, scope);
    if (!more.is(Kind::kDict)) fail("what stands behind '**' must be a dict");
    for (const auto& [key, v] : more.as<Dict>().entries) {
      heap_.element();
      args.named.emplace_back(text_of(key, "keys of '**'"), v);
    }
  }
}

Value Interpreter::call_expression(const Expr& e, Scope& scope, const Value* caller) {
  const Value callee = evaluate(*e.children[0], scope);
  Args args("");
  fill(args, e.arguments.get(), scope);
  if (caller) args.named.emplace_back("caller", *caller);
  where_ = e.where;
  return call(callee, args);
}

Value Interpreter::call(const Value& callee, Args& args) {
  Nested nested(*this);
  switch (callee.kind()) {
    case Kind::kUndefined:
      fail_undefined(callee);
    case Kind::kCallable: {
      Callable& f = callee.as<Callable>();
      args.function = f.name;
      return f.call(*this, args);
    }
    case Kind::kLoop:
      args.function = "loop";
      return run_loop_again(callee.as<Loop>(), *args.bind({"iterable"}, 1)[0]);
    case Kind::kJoiner: {
      Joiner& j = callee.as<Joiner>();
      return std::exchange(j.used, true) ? j.separator : Value::constant("");
    }
    default:
      fail(format("'{}' object is not callable", type_name(callee)));
  }
}

Value Interpreter::apply_filter(const Expr& e, Value input, Scope& scope) {
  Args args(e.text);
  fill(args, e.arguments.get(), scope);
  where_ = e.where;
  return e.filter(*this, input, args);
}

Value Interpreter::filter_chain(const Expr& e, Value input, Scope& scope) {
  Nested nested(*this);
  const Expr* inner = e.children[0].get();
  if (inner) input = filter_chain(*inner, std::move(input), scope);
  return apply_filter(e, std::move(input), scope);
}

// v.name: what Python's object has, else the element of that key.
Value Interpreter::attribute(const Value& v, const std::string& name) {
  if (v.is_undefined()) fail_undefined(v);
  if (name.starts_with("__") && name.ends_with("__")) {
    return Value::undefined(format("access to attribute '{}' is unsafe", name));
  }
  if (v.is(Kind::kTuple)) {
    const List& list = v.as<List>();
    for (size_t i = 0; i < 2; ++i) {
      if (!name.empty() && list.names[i] == name) return list.items[i];
    }
  }
  if (const Method* m = find_method(v, name)) return heap_.make<BoundMethod>(v, *m);
  if (v.is(Kind::kLoop)) return loop_attribute(v.as<Loop>(), name);
  if (v.is(Kind::kNamespace)) {
    if (const Value* found = find(heap_, v.as<Namespace>().attributes, name)) return *found;
  }
  if (v.is(Kind::kCycler) && name == "current") return v.as<Cycler>().items[v.as<Cycler>().at];
  if (v.is(Kind::kCallable) && name == "name") return heap_.text(v.as<Callable>().name);
  if (v.is(Kind::kDict)) {
    if (const Value* found = find(heap_, v.as<Dict>(), name)) return *found;
  }
  return undefined_item(v, Value::constant(name), heap_);
}

// v[key]: the element, else for a text what v.key is.
Value Interpreter::item(const Value& v, const Value& key) {
  if (v.is_undefined()) fail_undefined(v);
  if (v.is(Kind::kDict) && !key.is(Kind::kList) && !key.is(Kind::kDict)) {
    if (const Value* found = find(heap_, v.as<Dict>(), key)) return *found;
  }
  const bool sequence =
      v.is_string() || v.is(Kind::kList) || v.is(Kind::kTuple) || v.is(Kind::kRange);
  if (sequence && key.is_whole()) {
    const int64_t n = length_of(heap_, v);
    int64_t i = key.as_int();
    if (i < 0) i += n;
    if (i < 0 || i >= n) return undefined_item(v, key, heap_);
    if (v.is(Kind::kRange)) return v.as<Range>().at(i);
    if (!v.is_string()) return v.as<List>().items[static_cast<size_t>(i)];
    if (is_ascii(v.text())) return heap_.text(std::string(1, v.text()[static_cast<size_t>(i)]));
    return slice(heap_, v, i, i + 1, int64_t{1});
  }
  // The element failed; an attribute of a dict is now a method only.
  if (key.is_string()) {
    if (!v.is(Kind::kDict)) return attribute(v, key.text());
    if (const Method* m = find_method(v, key.text())) return heap_.make<BoundMethod>(v, *m);
  }
  return undefined_item(v, key, heap_);
}

}  // namespace braid::jinja
