#pragma once
// The grammar of Jinja: statements in parser.cpp, expressions in parser_expressions.cpp.

#include <algorithm>
#include <initializer_list>
#include <map>

#include "braid/text/jinja/ast.h"

namespace braid::jinja {

class Parser {
 public:
  Parser(std::string_view text, const std::string& source);
  std::unique_ptr<Template> run();

 private:
  friend class NestedParse;
  // Tokens.
  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool is_sign(std::string_view s) const {
    return now().kind == Token::Kind::kSign && now().text == s;
  }
  bool is_word(std::string_view s) const {
    return now().kind == Token::Kind::kName && now().text == s;
  }
  bool skip_sign(std::string_view s) { return is_sign(s) && (take(), true); }
  bool skip_word(std::string_view s) { return is_word(s) && (take(), true); }
  void expect_sign(std::string_view s);
  std::string expect_name(std::string_view what);
  void expect_block_end();
  [[noreturn]] void fail_here(const std::string& message) const;
  [[noreturn]] void fail_expected(std::string_view what) const;
  int number_of(const std::string& name);

  // Statements.
  using Words = std::initializer_list<std::string_view>;
  Block block_until(Words ends, std::string& end, std::string_view opened, Position where);
  Block body_until(std::string_view end, std::string_view opened, Position where);
  StmtPtr statement(const std::string& word, Position where);
  StmtPtr make(Stmt::Kind kind, Position where);
  StmtPtr print();
  StmtPtr if_statement(Position where);
  StmtPtr for_statement(Position where);
  StmtPtr set_statement(Position where);
  StmtPtr macro(Position where);
  StmtPtr call_block(Position where);
  StmtPtr filter_block(Position where);
  StmtPtr with_block(Position where);
  StmtPtr loop_control(const std::string& word, Position where);
  void print_statement(Block& out);
  std::unique_ptr<Signature> signature(const std::string& name);
  Block macro_body(Signature& s, std::string_view end, std::string_view opened, Position where);
  ExprPtr target(bool attribute);

  // Expressions, loosest first.
  ExprPtr make(Expr::Kind kind, Position where, std::vector<ExprPtr> children = {}) const;
  ExprPtr expression(bool conditional = true);
  ExprPtr tuple(bool conditional = true, bool parenthesised = false, std::string_view stop = {});
  ExprPtr conditional();
  ExprPtr disjunction();
  ExprPtr conjunction();
  ExprPtr negation();
  ExprPtr comparison();
  ExprPtr sum();
  ExprPtr concatenation();
  ExprPtr product();
  ExprPtr power();
  ExprPtr unary(bool with_filter);
  ExprPtr primary();
  ExprPtr name_or_constant();
  ExprPtr list();
  ExprPtr dict();
  ExprPtr postfix(ExprPtr node);
  ExprPtr filters_and_tests(ExprPtr node);
  ExprPtr subscript(ExprPtr node);
  ExprPtr filter(ExprPtr node);
  ExprPtr test(ExprPtr node);
  ExprPtr call(ExprPtr node);
  std::unique_ptr<CallArguments> arguments();
  void attach(Expr& node, std::unique_ptr<CallArguments> args) const;
  std::string dotted_name(std::string_view what);
  void check_named_builtin(const Expr& node) const;
  void deepen(Expr& node, const Expr* child) const;

  const std::string& source_;
  std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // around the current statement, inside the current macro
  std::vector<Signature*> macros_;
  std::map<std::string, int> numbers_;
  std::unique_ptr<Template> result_;
};

// Bounds how deep the parser's functions are inside each other.
class NestedParse {
 public:
  explicit NestedParse(Parser& parser);
  ~NestedParse() { --parser_.depth_; }
  NestedParse(const NestedParse&) = delete;
  NestedParse& operator=(const NestedParse&) = delete;

 private:
  Parser& parser_;
};

}  // namespace braid::jinja
