#include <algorithm>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/base/suggest.h"
#include "braid/text/jinja/builtins.h"
#include "braid/text/jinja/parser.h"

namespace braid::jinja {
namespace {

constexpr int kDeepest = 200;  // of a tree: "a + b + c ..." is as deep as it has operators

struct Sign {
  std::string_view text;
  Operator op;
};

}  // namespace

void Parser::deepen(Expr& node, const Expr* child) const {
  if (!child) return;
  node.depth = std::max(node.depth, child->depth + 1);
  if (node.depth > kDeepest) {
    fail_at(source_, node.where, format("an expression is more than {} levels deep", kDeepest));
  }
}

ExprPtr Parser::make(Expr::Kind kind, Position where, std::vector<ExprPtr> children) const {
  auto node = std::make_unique<Expr>();
  node->kind = kind;
  node->where = where;
  node->children = std::move(children);
  for (const auto& child : node->children) deepen(*node, child.get());
  return node;
}

namespace {

std::vector<ExprPtr> pair_of(ExprPtr a, ExprPtr b) {
  std::vector<ExprPtr> v;
  v.push_back(std::move(a));
  v.push_back(std::move(b));
  return v;
}

std::vector<ExprPtr> one(ExprPtr a) {
  std::vector<ExprPtr> v;
  v.push_back(std::move(a));
  return v;
}

}  // namespace

ExprPtr Parser::expression(bool with_condition) {
  NestedParse nested(*this);
  return with_condition ? conditional() : disjunction();
}

// Expressions with commas between them, or a single one. `stop`: a word that ends them.
ExprPtr Parser::tuple(bool with_condition, bool parenthesised, std::string_view stop) {
  const Position where = now().where;
  std::vector<ExprPtr> parts;
  bool several = false;
  while (true) {
    if (!parts.empty()) expect_sign(",");
    const bool end = now().kind == Token::Kind::kVariableEnd ||
                     now().kind == Token::Kind::kBlockEnd || is_sign(")") ||
                     (!stop.empty() && is_word(stop));
    if (end) break;
    parts.push_back(expression(with_condition));
    if (!is_sign(",")) break;
    several = true;
  }
  if (!several) {
    if (!parts.empty()) return std::move(parts[0]);
    if (!parenthesised) fail_expected("an expression");
  }
  return make(Expr::Kind::kTuple, where, std::move(parts));
}

ExprPtr Parser::conditional() {
  auto value = disjunction();
  int links = 0;
  while (is_word("if")) {
    if (++links > kDeepest) fail_here("too many conditions");
    const Position where = take().where;
    auto node = make(Expr::Kind::kConditional, where, one(std::move(value)));
    auto condition = disjunction();
    deepen(*node, condition.get());
    node->children.push_back(std::move(condition));
    ExprPtr other;
    if (skip_word("else")) {
      NestedParse nested(*this);
      other = conditional();
      deepen(*node, other.get());
    }
    node->children.push_back(std::move(other));
    value = std::move(node);
  }
  return value;
}

ExprPtr Parser::disjunction() {
  auto left = conjunction();
  while (is_word("or")) {
    const Position where = take().where;
    left = make(Expr::Kind::kOr, where, pair_of(std::move(left), conjunction()));
  }
  return left;
}

ExprPtr Parser::conjunction() {
  auto left = negation();
  while (is_word("and")) {
    const Position where = take().where;
    left = make(Expr::Kind::kAnd, where, pair_of(std::move(left), negation()));
  }
  return left;
}

ExprPtr Parser::negation() {
  if (!is_word("not")) return comparison();
  NestedParse nested(*this);
  const Position where = take().where;
  return make(Expr::Kind::kNot, where, one(negation()));
}

ExprPtr Parser::comparison() {
  static constexpr std::pair<std::string_view, Comparison> kSigns[] = {
      {"==", Comparison::kEq}, {"!=", Comparison::kNe}, {"<", Comparison::kLt},
      {"<=", Comparison::kLe}, {">", Comparison::kGt},  {">=", Comparison::kGe}};
  const Position where = now().where;
  std::vector<ExprPtr> operands = one(sum());
  std::vector<Comparison> comparisons;
  while (true) {
    const size_t before = comparisons.size();
    for (const auto& [text, c] : kSigns) {
      if (comparisons.size() == before && skip_sign(text)) comparisons.push_back(c);
    }
    if (comparisons.size() == before && skip_word("in")) comparisons.push_back(Comparison::kIn);
    const bool not_in =
        is_word("not") && ahead().kind == Token::Kind::kName && ahead().text == "in";
    if (comparisons.size() == before && not_in) {
      take();
      take();
      comparisons.push_back(Comparison::kNotIn);
    }
    if (comparisons.size() == before) break;
    operands.push_back(sum());
  }
  if (comparisons.empty()) return std::move(operands[0]);
  auto node = make(Expr::Kind::kCompare, where, std::move(operands));
  node->comparisons = std::move(comparisons);
  return node;
}

ExprPtr Parser::sum() {
  auto left = concatenation();
  while (is_sign("+") || is_sign("-")) {
    const Operator op = is_sign("+") ? Operator::kAdd : Operator::kSub;
    const Position where = take().where;
    left = make(Expr::Kind::kArithmetic, where, pair_of(std::move(left), concatenation()));
    left->op = op;
  }
  return left;
}

ExprPtr Parser::concatenation() {
  const Position where = now().where;
  std::vector<ExprPtr> parts = one(product());
  while (skip_sign("~")) parts.push_back(product());
  if (parts.size() == 1) return std::move(parts[0]);
  return make(Expr::Kind::kConcat, where, std::move(parts));
}

ExprPtr Parser::product() {
  static constexpr Sign kSigns[] = {{"*", Operator::kMul},
                                    {"/", Operator::kDiv},
                                    {"//", Operator::kFloorDiv},
                                    {"%", Operator::kMod}};
  auto left = power();
  for (bool found = true; found;) {
    found = false;
    for (const auto& [text, op] : kSigns) {
      if (!is_sign(text)) continue;
      const Position where = take().where;
      left = make(Expr::Kind::kArithmetic, where, pair_of(std::move(left), power()));
      left->op = op;
      found = true;
      break;
    }
  }
  return left;
}

ExprPtr Parser::power() {
  auto left = unary(true);
  while (is_sign("**")) {
    const Position where = take().where;
    left = make(Expr::Kind::kArithmetic, where, pair_of(std::move(left), unary(true)));
    left->op = Operator::kPow;
  }
  return left;
}

ExprPtr Parser::unary(bool with_filter) {
  NestedParse nested(*this);
  ExprPtr node;
  if (is_sign("-") || is_sign("+")) {
    const auto kind = is_sign("-") ? Expr::Kind::kNegate : Expr::Kind::kPlus;
    const Position where = take().where;
    node = make(kind, where, one(unary(false)));
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filter ? filters_and_tests(std::move(node)) : std::move(node);
}

ExprPtr Parser::name_or_constant() {
  const Token& token = take();
  const std::string& word = token.text;
  auto node = make(Expr::Kind::kConstant, token.where);
  if (word == "true" || word == "True") {
    node->value = true;
  } else if (word == "false" || word == "False") {
    node->value = false;
  } else if (word != "none" && word != "None") {
    node->kind = Expr::Kind::kName;
    node->text = word;
    node->name = number_of(word);
    for (Signature* macro : macros_) {  // all: a macro inside may ask for the outer one's
      macro->caller = macro->caller || word == "caller";
      macro->varargs = macro->varargs || word == "varargs";
      macro->kwargs = macro->kwargs || word == "kwargs";
    }
  }
  return node;
}

ExprPtr Parser::primary() {
  const Token& token = now();
  switch (token.kind) {
    case Token::Kind::kName:
      return name_or_constant();
    case Token::Kind::kString: {
      auto node = make(Expr::Kind::kConstant, token.where);
      std::string text;
      while (now().kind == Token::Kind::kString) text += take().text;
      node->value = Value::constant(std::move(text));
      return node;
    }
    case Token::Kind::kInt:
    case Token::Kind::kReal: {
      auto node = make(Expr::Kind::kConstant, token.where);
      node->value = token.kind == Token::Kind::kInt ? Value(token.whole) : Value(token.real);
      take();
      return node;
    }
    default:
      break;
  }
  if (skip_sign("(")) {
    auto node = tuple(true, true);
    expect_sign(")");
    return node;
  }
  if (is_sign("[")) return list();
  if (is_sign("{")) return dict();
  fail_expected("an expression");
}

ExprPtr Parser::list() {
  const Position where = take().where;
  std::vector<ExprPtr> items;
  while (!is_sign("]")) {
    if (!items.empty()) expect_sign(",");
    if (is_sign("]")) break;
    items.push_back(expression());
  }
  expect_sign("]");
  return make(Expr::Kind::kList, where, std::move(items));
}

ExprPtr Parser::dict() {
  const Position where = take().where;
  std::vector<ExprPtr> items;
  while (!is_sign("}")) {
    if (!items.empty()) expect_sign(",");
    if (is_sign("}")) break;
    items.push_back(expression());
    expect_sign(":");
    items.push_back(expression());
  }
  expect_sign("}");
  return make(Expr::Kind::kDict, where, std::move(items));
}

ExprPtr Parser::postfix(ExprPtr node) {
  while (true) {
    if (is_sign(".") || is_sign("[")) {
      node = subscript(std::move(node));
    } else if (is_sign("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::filters_and_tests(ExprPtr node) {
  while (true) {
    if (skip_sign("|")) {
      node = filter(std::move(node));
    } else if (is_word("is")) {
      node = test(std::move(node));
    } else if (is_sign("(")) {  // calls stand behind filters and tests too
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExprPtr Parser::subscript(ExprPtr node) {
  const Token& sign = take();
  const Position where = now().where;
  if (sign.text == ".") {
    if (now().kind == Token::Kind::kInt) {
      auto index = make(Expr::Kind::kConstant, where);
      index->value = take().whole;
      return make(Expr::Kind::kItem, where, pair_of(std::move(node), std::move(index)));
    }
    auto result = make(Expr::Kind::kAttribute, where, one(std::move(node)));
    result->text = expect_name("an attribute");
    return result;
  }
  std::vector<ExprPtr> parts;
  if (is_sign("]")) fail_expected("an index");
  ExprPtr first = is_sign(":") ? nullptr : expression();
  if (is_sign(",")) {  // a[1, 2] is an index that is a tuple
    parts.push_back(std::move(first));
    while (skip_sign(",") && !is_sign("]")) parts.push_back(expression());
    expect_sign("]");
    auto index = make(Expr::Kind::kTuple, where, std::move(parts));
    return make(Expr::Kind::kItem, where, pair_of(std::move(node), std::move(index)));
  }
  if (skip_sign("]"))
    return make(Expr::Kind::kItem, where, pair_of(std::move(node), std::move(first)));
  parts.push_back(std::move(node));
  parts.push_back(std::move(first));
  for (int i = 0; i < 2; ++i) {
    const bool given = skip_sign(":") && !is_sign(":") && !is_sign("]");
    parts.push_back(given ? expression() : nullptr);
  }
  expect_sign("]");
  return make(Expr::Kind::kSlice, where, std::move(parts));
}

ExprPtr Parser::call(ExprPtr node) {
  const Position where = now().where;
  auto args = arguments();
  auto result = make(Expr::Kind::kCall, where, one(std::move(node)));
  attach(*result, std::move(args));
  return result;
}

void Parser::attach(Expr& node, std::unique_ptr<CallArguments> args) const {
  for (const auto& a : args->positional) deepen(node, a.get());
  for (const auto& [name, a] : args->named) deepen(node, a.get());
  deepen(node, args->star.get());
  deepen(node, args->double_star.get());
  node.arguments = std::move(args);
}

std::unique_ptr<CallArguments> Parser::arguments() {
  expect_sign("(");
  auto args = std::make_unique<CallArguments>();
  bool first = true;
  while (!is_sign(")")) {
    if (!std::exchange(first, false)) {
      expect_sign(",");
      if (is_sign(")")) break;
    }
    if (args->double_star) fail_here("'**' must be the last argument");
    if (skip_sign("*")) {
      if (args->star) fail_here("'*' twice in one call");
      args->star = expression();
    } else if (skip_sign("**")) {
      args->double_star = expression();
    } else if (now().kind == Token::Kind::kName && ahead().kind == Token::Kind::kSign &&
               ahead().text == "=") {
      const std::string name = take().text;
      take();
      for (const auto& [other, value] : args->named) {
        if (other == name) fail_here(format("argument '{}' twice", name));
      }
      args->named.emplace_back(name, expression());
    } else {
      if (!args->named.empty() || args->star) fail_here("a positional argument after a named one");
      args->positional.push_back(expression());
    }
  }
  expect_sign(")");
  return args;
}

std::string Parser::dotted_name(std::string_view what) {
  std::string name = expect_name(what);
  while (skip_sign(".")) name = format("{}.{}", name, expect_name(what));
  return name;
}

ExprPtr Parser::filter(ExprPtr node) {
  const Position where = now().where;
  auto result = make(Expr::Kind::kFilter, where, one(std::move(node)));
  result->text = dotted_name("a filter's name");
  result->filter = find_filter(result->text);
  if (!result->filter) {
    fail_at(source_, where,
            format("filter '{}' is not supported{}", printable(result->text),
                   suggestion(result->text, filter_names())));
  }
  if (is_sign("(")) attach(*result, arguments());
  check_named_builtin(*result);
  return result;
}

// map('upper') and select('odd') name a filter or a test in a string.
void Parser::check_named_builtin(const Expr& node) const {
  if (!node.arguments) return;
  const size_t at = node.text == "selectattr" || node.text == "rejectattr" ? 1 : 0;
  const bool tests = at == 1 || node.text == "select" || node.text == "reject";
  if (!tests && node.text != "map") return;
  const auto& args = node.arguments->positional;
  if (args.size() <= at || args[at]->kind != Expr::Kind::kConstant ||
      !args[at]->value.is_string()) {
    return;
  }
  const std::string& name = args[at]->value.text();
  if (tests ? !find_test(name) : !find_filter(name)) {
    fail_at(source_, args[at]->where,
            format("{} '{}' is not supported{}", tests ? "test" : "filter", printable(name),
                   suggestion(name, tests ? test_names() : filter_names())));
  }
}

ExprPtr Parser::test(ExprPtr node) {
  take();
  const bool negated = skip_word("not");
  const Position where = now().where;
  auto result = make(Expr::Kind::kTest, where, one(std::move(node)));
  result->text = dotted_name("a test's name");
  result->test = find_test(result->text);
  if (!result->test) {
    fail_at(source_, where,
            format("test '{}' is not supported{}", printable(result->text),
                   suggestion(result->text, test_names())));
  }
  const Token::Kind kind = now().kind;
  if (is_sign("(")) {
    attach(*result, arguments());
  } else if (kind == Token::Kind::kString || kind == Token::Kind::kInt ||
             kind == Token::Kind::kReal || is_sign("[") || is_sign("{") ||
             (kind == Token::Kind::kName && !is_word("else") && !is_word("or") && !is_word("and") &&
              !is_word("if"))) {
    if (is_word("is")) fail_here("tests cannot be chained with 'is'");
    auto args = std::make_unique<CallArguments>();
    args->positional.push_back(postfix(primary()));
    attach(*result, std::move(args));
  }
  if (!negated) return result;
  return make(Expr::Kind::kNot, where, one(std::move(result)));
}

}  // namespace braid::jinja
