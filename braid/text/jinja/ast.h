#pragma once
// A parsed template.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "braid/text/jinja/lexer.h"
#include "braid/text/jinja/value.h"

namespace braid::jinja {

class Interpreter;
class Args;
using Filter = Value (*)(Interpreter&, const Value&, Args&);
using Test = bool (*)(Interpreter&, const Value&, Args&);

struct Expr;
using ExprPtr = std::unique_ptr<Expr>;

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> named;
  ExprPtr star, double_star;
};

enum class Comparison { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Expr {
  enum class Kind {
    kConstant,
    kName,
    kList,
    kTuple,
    kDict,  // key, value, key, value ...
    kOr,
    kAnd,
    kNot,
    kNegate,
    kPlus,
    kArithmetic,
    kConcat,
    kCompare,      // first operand, then one for each comparison
    kConditional,  // value, condition, other value or null
    kAttribute,    // child . text
    kItem,         // child [ child ]
    kSlice,        // child [ start : stop : step ], any of the last three null
    kCall,
    kFilter,  // child, or null in a filter block
    kTest
  };
  Kind kind = Kind::kConstant;
  Position where;
  int depth = 1;
  int name = 0;  // of kName: its number in the template
  Operator op = Operator::kAdd;
  Filter filter = nullptr;
  Test test = nullptr;
  Value value;
  std::string text;
  std::vector<ExprPtr> children;
  std::vector<Comparison> comparisons;
  std::unique_ptr<CallArguments> arguments;
};

struct Stmt;
using StmtPtr = std::unique_ptr<Stmt>;
using Block = std::vector<StmtPtr>;

// What a macro or the body of a call takes.
struct Signature {
  std::string name;
  std::vector<std::string> parameters;
  std::vector<int> numbers;                              // of the parameters' names
  std::vector<ExprPtr> defaults;                         // of the last parameters
  bool caller = false, varargs = false, kwargs = false;  // does the body speak of them?
};

struct Stmt {
  enum class Kind {
    kText,
    kPrint,
    kIf,  // conditions in `values`, a block each, and perhaps one more for else
    kFor,
    kSet,       // target, values[0]
    kSetBlock,  // target, blocks[0], perhaps a filter in values[0]
    kMacro,
    kCall,    // values[0] is the call
    kFilter,  // values[0] is the chain of filters
    kWith,    // targets and values
    kScope,   // generation
    kBreak,
    kContinue
  };
  Kind kind = Kind::kText;
  Position where;
  std::string text;
  int name = 0;    // of a macro
  ExprPtr target;  // a name, a tuple of targets, or name.attribute
  std::vector<ExprPtr> targets;
  std::vector<ExprPtr> values;  // of kFor: what is walked, and the condition or null
  std::vector<Block> blocks;    // of kFor: the body, and the else block where there is one
  bool recursive = false;
  std::unique_ptr<Signature> signature;
};

struct Template {
  std::string source;              // for messages: a file's name
  std::vector<std::string> names;  // of variables, by number
  Block body;
};

// Throws Error(kBadInput) "SOURCE:LINE:COLUMN: ..." for bad syntax and for what is not supported.
std::unique_ptr<Template> parse_template(std::string_view text, const std::string& source);

// Numbers of names that the interpreter sets itself.
inline constexpr int kNameLoop = 0, kNameCaller = 1, kNameVarargs = 2, kNameKwargs = 3;

}  // namespace braid::jinja
