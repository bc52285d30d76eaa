#include "braid/text/jinja/interpreter.h"

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid::jinja {
namespace {

struct Macro : Callable {
  Macro(const Stmt& s, Scope& closure)
      : Callable(s.signature->name), statement(s), closure(closure) {}
  Value call(Interpreter& in, Args& args) override {
    return in.call_macro(statement, closure, args);
  }
  const Stmt& statement;
  Scope& closure;
};

void define(Heap& heap, Scope& scope, int number, Value v) {
  for (auto& [n, value] : scope.variables) {
    if (n == number) {
      value = std::move(v);
      return;
    }
  }
  heap.element();
  scope.variables.emplace_back(number, std::move(v));
}

}  // namespace

Nested::Nested(Interpreter& in) : in_(in) {
  if (++in_.depth_ > in_.heap().limits().depth) {
    --in_.depth_;
    fail(format("more than {} levels inside each other", in_.heap().limits().depth));
  }
}

void Interpreter::set(std::string_view name, Value value) {
  for (auto& [n, v] : given_) {
    if (n == name) {
      v = std::move(value);
      return;
    }
  }
  given_.emplace_back(name, std::move(value));
}

Scope& Interpreter::inner(Scope* parent) {
  heap_.memory(sizeof(Scope));
  return scopes_.emplace_back(parent);
}

std::string Interpreter::run() {
  std::string out;
  out_ = &out;
  try {
    Scope& scope = inner(nullptr);
    for (size_t i = 0; i < template_.names.size(); ++i) {
      for (const auto& [name, value] : given_) {
        if (template_.names[i] == name) define(heap_, scope, static_cast<int>(i), value);
      }
    }
    run(template_.body, inner(&scope));
  } catch (const Failure& failure) {
    fail_at(template_.source, where_, failure.message);
  }
  return out;
}

void Interpreter::print(std::string_view text) {
  heap_.work(1 + text.size() / 64);
  if (out_->size() + text.size() > heap_.limits().output) {
    fail(format("the text grows beyond {} bytes", heap_.limits().output));
  }
  *out_ += text;
}

std::string Interpreter::render(const Block& block, Scope& scope) {
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  try {
    run(block, scope);
  } catch (...) {
    out_ = outer;
    throw;
  }
  out_ = outer;
  return text;
}

Interpreter::Flow Interpreter::run(const Block& block, Scope& scope) {
  for (const auto& s : block) {
    const Flow flow = run(*s, scope);
    if (flow != Flow::kOn) return flow;
  }
  return Flow::kOn;
}

Interpreter::Flow Interpreter::run(const Stmt& s, Scope& scope) {
  Nested nested(*this);
  heap_.work(1);
  where_ = s.where;
  switch (s.kind) {
    case Stmt::Kind::kText:
      print(s.text);
      break;
    case Stmt::Kind::kPrint:
      print(to_text(heap_, evaluate(*s.values[0], scope)));
      break;
    case Stmt::Kind::kIf:
      return run_if(s, scope);
    case Stmt::Kind::kFor:
      run_for(s, evaluate(*s.values[0], scope), scope, 0);
      break;
    case Stmt::Kind::kSet:
      assign(*s.target, evaluate(*s.values[0], scope), scope);
      break;
    case Stmt::Kind::kSetBlock:
      run_set_block(s, scope);
      break;
    case Stmt::Kind::kMacro:
      define_macro(s, scope);
      break;
    case Stmt::Kind::kCall:
      run_call(s, scope);
      break;
    case Stmt::Kind::kFilter: {
      Value text = heap_.text(render(s.blocks[0], inner(&scope)));
      print(to_text(heap_, filter_chain(*s.values[0], std::move(text), scope)));
      break;
    }
    case Stmt::Kind::kWith:
      return run_with(s, scope);
    case Stmt::Kind::kScope:
      return run(s.blocks[0], inner(&scope));
    case Stmt::Kind::kBreak:
      return Flow::kBreak;
    case Stmt::Kind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kOn;
}

Interpreter::Flow Interpreter::run_if(const Stmt& s, Scope& scope) {
  for (size_t i = 0; i < s.values.size(); ++i) {
    if (truth(evaluate(*s.values[i], scope))) return run(s.blocks[i], scope);
  }
  return s.blocks.size() > s.values.size() ? run(s.blocks.back(), scope) : Flow::kOn;
}

Interpreter::Flow Interpreter::run_with(const Stmt& s, Scope& scope) {
  Scope& own = inner(&scope);
  std::vector<Value> values;
  for (const auto& e : s.values) values.push_back(evaluate(*e, scope));
  for (size_t i = 0; i < values.size(); ++i) assign(*s.targets[i], values[i], own);
  return run(s.blocks[0], own);
}

void Interpreter::run_for(const Stmt& s, const Value& items, Scope& scope, int64_t depth) {
  if (items.is(Kind::kCallable) || !iterable(items)) {
    fail(format("'{}' object is not iterable", type_name(items)));
  }
  Loop* loop = heap_.make<Loop>(*this, s, items, scope, depth);
  bool any = false;  // as in Jinja: has any round come to the end of the body?
  while (loop->next()) {
    Scope& own = inner(&scope);
    define(heap_, own, kNameLoop, loop);
    assign(*s.target, loop->current, own);
    const Flow flow = run(s.blocks[0], own);
    if (flow == Flow::kBreak) break;
    any = any || flow == Flow::kOn;
    where_ = s.where;
  }
  if (!any && s.blocks.size() > 1) run(s.blocks[1], inner(&scope));
}

Value Interpreter::run_loop_again(Loop& loop, const Value& items) {
  if (!loop.statement.recursive) fail("the loop must be 'recursive' to be called");
  Nested nested(*this);
  std::string text;
  std::string* const outer = std::exchange(out_, &text);
  try {
    run_for(loop.statement, items, loop.outer, loop.depth0 + 1);
  } catch (...) {
    out_ = outer;
    throw;
  }
  out_ = outer;
  return heap_.text(std::move(text));
}

void Interpreter::assign(const Expr& target, const Value& v, Scope& scope) {
  if (target.kind == Expr::Kind::kName) {
    define(heap_, scope, target.name, v);
  } else if (target.kind == Expr::Kind::kAttribute) {
    const Value owner = evaluate(*target.children[0], scope);
    where_ = target.where;
    if (!owner.is(Kind::kNamespace)) fail("cannot assign an attribute of what is no namespace");
    put(heap_, owner.as<Namespace>().attributes, Value::constant(target.text), v);
  } else {
    where_ = target.where;
    if (!iterable(v)) fail(format("cannot unpack '{}' object", type_name(v)));
    const std::vector<Value> parts = items_of(heap_, v);
    if (parts.size() != target.children.size()) {
      fail(format("{} values cannot be unpacked into {} names", parts.size(),
                  target.children.size()));
    }
    for (size_t i = 0; i < parts.size(); ++i) assign(*target.children[i], parts[i], scope);
  }
}

void Interpreter::run_set_block(const Stmt& s, Scope& scope) {
  Value text = heap_.text(render(s.blocks[0], inner(&scope)));
  if (s.values[0]) text = filter_chain(*s.values[0], std::move(text), scope);
  assign(*s.target, text, scope);
}

void Interpreter::define_macro(const Stmt& s, Scope& scope) {
  define(heap_, scope, s.name, heap_.make<Macro>(s, scope));
}

void Interpreter::run_call(const Stmt& s, Scope& scope) {
  const Value caller = heap_.make<Macro>(s, scope);
  const Value text = call_expression(*s.values[0], scope, &caller);
  print(to_text(heap_, text));
}

Value Interpreter::call_macro(const Stmt& macro, Scope& closure, Args& args) {
  Nested nested(*this);
  const Signature& s = *macro.signature;
  Scope& own = inner(&closure);
  const size_t count = s.parameters.size();
  if (args.positional.size() > count && !s.varargs) {
    fail(format("macro '{}' takes {} arguments, not {}", s.name, count, args.positional.size()));
  }
  std::vector<const Value*> given(count, nullptr);
  for (size_t i = 0; i < count && i < args.positional.size(); ++i) given[i] = &args.positional[i];
  Dict* rest = heap_.make<Dict>();
  Value caller = Value::undefined("No caller defined");
  for (const auto& [name, value] : args.named) {
    size_t i = 0;
    while (i < count && s.parameters[i] != name) ++i;
    if (i < count && given[i]) fail(format("macro '{}' got '{}' twice", s.name, name));
    if (i < count) {
      given[i] = &value;
    } else if (name == "caller" && s.caller) {
      caller = value;
    } else if (s.kwargs) {
      put(heap_, *rest, heap_.text(name), value);
    } else {
      fail(format("macro '{}' takes no argument '{}'", s.name, name));
    }
  }
  const size_t first_default = count - s.defaults.size();
  for (size_t i = 0; i < count; ++i) {
    if (given[i]) {
      define(heap_, own, s.numbers[i], *given[i]);
    } else if (i >= first_default) {
      define(heap_, own, s.numbers[i], evaluate(*s.defaults[i - first_default], own));
    } else {
      define(heap_, own, s.numbers[i],
             Value::undefined(format("parameter '{}' was not provided", s.parameters[i])));
    }
  }
  if (s.caller) define(heap_, own, kNameCaller, caller);
  if (s.kwargs) define(heap_, own, kNameKwargs, rest);
  if (s.varargs) {
    std::vector<Value> more;
    for (size_t i = count; i < args.positional.size(); ++i) more.push_back(args.positional[i]);
    define(heap_, own, kNameVarargs, heap_.tuple(std::move(more)));
  }
  return heap_.text(render(macro.blocks[0], own));
}

}  // namespace braid::jinja
