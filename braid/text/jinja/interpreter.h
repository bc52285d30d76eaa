#pragma once
// Runs a parsed template over values. One object per render.

#include <ctime>
#include <deque>
#include <functional>

#include "braid/text/jinja/ast.h"
#include "braid/text/jinja/builtins.h"

namespace braid::jinja {

struct Scope {
  explicit Scope(Scope* p) : parent(p) {}
  Scope* parent;
  std::vector<std::pair<int, Value>> variables;
};

struct Callable : Object {
  explicit Callable(std::string_view n) : Object(Kind::kCallable), name(n) {}
  virtual Value call(Interpreter& in, Args& args) = 0;
  std::string name;
};

struct Loop;

class Interpreter {
 public:
  using Clock = std::function<std::tm()>;
  Interpreter(const Template& t, const RenderLimits& limits, Clock clock)
      : heap_(limits), template_(t), clock_(std::move(clock)) {}
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  void set(std::string_view name, Value value);  // a variable of the template, before run()
  // Throws Error(kBadInput) with the place in the template.
  std::string run();

  // For filters, tests, methods and globals; these throw Failure.
  Heap& heap() { return heap_; }
  Value call(const Value& callable, Args& args);
  Value attribute(const Value& v, const std::string& name);
  Value item(const Value& v, const Value& key);
  std::tm local_time() const { return clock_(); }

  // For loops and macros.
  Value evaluate(const Expr& e, Scope& scope);
  std::string render(const Block& block, Scope& scope);  // into a text of its own
  void assign(const Expr& target, const Value& v, Scope& scope);
  Scope& inner(Scope* parent);
  Value call_macro(const Stmt& macro, Scope& closure, Args& args);
  Value run_loop_again(Loop& loop, const Value& items);

 private:
  friend class Nested;
  enum class Flow { kOn, kBreak, kContinue };
  // Statements (interpreter.cpp).
  Flow run(const Block& block, Scope& scope);
  Flow run(const Stmt& s, Scope& scope);
  Flow run_if(const Stmt& s, Scope& scope);
  Flow run_with(const Stmt& s, Scope& scope);
  void run_for(const Stmt& s, const Value& items, Scope& scope, int64_t depth);
  void run_set_block(const Stmt& s, Scope& scope);
  void run_call(const Stmt& s, Scope& scope);
  void define_macro(const Stmt& s, Scope& scope);
  void print(std::string_view text);
  // Expressions (evaluate.cpp).
  Value name(const Expr& e, Scope& scope);
  Value container(const Expr& e, Scope& scope);
  Value compare_chain(const Expr& e, Scope& scope);
  Value concat(const Expr& e, Scope& scope);
  Value call_expression(const Expr& e, Scope& scope, const Value* caller = nullptr);
  Value apply_filter(const Expr& e, Value input, Scope& scope);
  // Chains of a filter block or of a block set: the innermost gets `input`.
  Value filter_chain(const Expr& e, Value input, Scope& scope);
  void fill(Args& args, const CallArguments* arguments, Scope& scope);
  Value loop_attribute(Loop& loop, const std::string& name);

  Heap heap_;
  const Template& template_;
  Clock clock_;
  std::deque<Scope> scopes_;
  std::vector<std::pair<std::string, Value>> given_;
  std::string* out_ = nullptr;
  Position where_;  // of what may fail next
  int depth_ = 0;
};

// Bounds how deep the interpreter's functions are inside each other.
class Nested {
 public:
  explicit Nested(Interpreter& in);
  ~Nested() { --in_.depth_; }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;

 private:
  Interpreter& in_;
};

// The variable `loop`. Elements are taken one by one, because the condition of a loop may read what
// its body has changed.
struct Loop : Object {
  Loop(Interpreter& in, const Stmt& s, const Value& items, Scope& outer, int64_t depth)
      : Object(Kind::kLoop),
        in(in),
        statement(s),
        source(items),
        outer(outer),
        each(in.heap(), items),
        depth0(depth) {}
  bool next();          // moves to the next element, `current`
  const Value* peek();  // the one after it, or null
  int64_t length();
  Interpreter& in;
  const Stmt& statement;
  Value source;
  Scope& outer;
  Iteration each;
  int64_t depth0;
  int64_t index0 = -1;
  Value before, current;
  Value last_changed;
  bool changed_called = false;

 private:
  bool pull(Value& out);
  Value after_;
  bool has_after_ = false;
  bool read_all_ = false;
  std::vector<Value> rest_;  // once length() had to read all, backwards
  int64_t length_ = -1;
};

}  // namespace braid::jinja
