#include "braid/text/jinja/parser.h"

#include <algorithm>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/base/suggest.h"
#include "braid/text/jinja/builtins.h"

namespace braid::jinja {
namespace {

constexpr int kDeepest = 150;  // expressions and blocks inside another

constexpr std::string_view kStatements[] = {"if",    "for",      "set",   "macro",
                                            "call",  "filter",   "with",  "generation",
                                            "break", "continue", "print", "raw"};
// Known to Jinja, but not to the environment chat templates run in, or useless there.
constexpr std::string_view kUnsupported[] = {"include", "import",     "from",  "extends",
                                             "block",   "autoescape", "trans", "do",
                                             "debug",   "pluralize"};

template <typename Range>
bool has(const Range& words, std::string_view word) {
  return std::find(std::begin(words), std::end(words), word) != std::end(words);
}

std::string described(const Token& t) {
  switch (t.kind) {
    case Token::Kind::kBlockEnd:
      return "'%}'";
    case Token::Kind::kVariableEnd:
      return "'}}'";
    case Token::Kind::kString:
      return "a string";
    case Token::Kind::kInt:
    case Token::Kind::kReal:
      return "a number";
    case Token::Kind::kName:
    case Token::Kind::kSign:
      return format("'{}'", printable(t.text));
    default:
      return "the end of the template";
  }
}

}  // namespace

NestedParse::NestedParse(Parser& parser) : parser_(parser) {
  if (++parser_.depth_ > kDeepest) {
    --parser_.depth_;
    parser_.fail_here(format("more than {} levels inside each other", kDeepest));
  }
}

Parser::Parser(std::string_view text, const std::string& source)
    : source_(source), tokens_(tokenize(text, source)), result_(std::make_unique<Template>()) {
  result_->source = source;
  for (const char* name : {"loop", "caller", "varargs", "kwargs"}) number_of(name);
}

void Parser::fail_here(const std::string& message) const { fail_at(source_, now().where, message); }

void Parser::fail_expected(std::string_view what) const {
  fail_here(format("expected {}, got {}", what, described(now())));
}

void Parser::expect_sign(std::string_view s) {
  if (!skip_sign(s)) fail_expected(format("'{}'", s));
}

std::string Parser::expect_name(std::string_view what) {
  if (now().kind != Token::Kind::kName) fail_expected(what);
  return take().text;
}

void Parser::expect_block_end() {
  if (now().kind != Token::Kind::kBlockEnd) fail_expected("'%}'");
  take();
}

int Parser::number_of(const std::string& name) {
  const auto [entry, added] = numbers_.emplace(name, static_cast<int>(result_->names.size()));
  if (added) result_->names.push_back(name);
  return entry->second;
}

StmtPtr Parser::make(Stmt::Kind kind, Position where) {
  auto s = std::make_unique<Stmt>();
  s->kind = kind;
  s->where = where;
  return s;
}

std::unique_ptr<Template> Parser::run() {
  std::string end;
  result_->body = block_until({}, end, "", {});
  return std::move(result_);
}

// Statements up to a tag whose first word is one of `ends`, which is taken and given back in `end`.
// Without ends, up to the end of the template.
Block Parser::block_until(Words ends, std::string& end, std::string_view opened, Position where) {
  NestedParse nested(*this);
  Block block;
  while (true) {
    const Token& token = now();
    if (token.kind == Token::Kind::kEnd) {
      if (ends.size() == 0) return block;
      fail_at(source_, where,
              format("'{{% {} %}}' has no '{{% {} %}}'", opened, *(ends.end() - 1)));
    }
    if (token.kind == Token::Kind::kData) {
      auto text = make(Stmt::Kind::kText, token.where);
      text->text = token.text;
      block.push_back(std::move(text));
      take();
    } else if (token.kind == Token::Kind::kVariableBegin) {
      take();
      block.push_back(print());
    } else {
      take();  // the beginning of a block tag
      const Position at = now().where;
      const std::string word = expect_name("a statement");
      if (has(ends, word)) {
        end = word;
        return block;
      }
      if (word == "print") {
        print_statement(block);
      } else {
        block.push_back(statement(word, at));
      }
    }
  }
}

Block Parser::body_until(std::string_view end, std::string_view opened, Position where) {
  std::string found;
  Block block = block_until({end}, found, opened, where);
  expect_block_end();
  return block;
}

StmtPtr Parser::print() {
  auto s = make(Stmt::Kind::kPrint, now().where);
  s->values.push_back(tuple());
  if (now().kind != Token::Kind::kVariableEnd) fail_expected("'}}'");
  take();
  return s;
}

void Parser::print_statement(Block& out) {
  while (now().kind != Token::Kind::kBlockEnd) {
    auto s = make(Stmt::Kind::kPrint, now().where);
    s->values.push_back(expression());
    out.push_back(std::move(s));
    if (!skip_sign(",")) break;
  }
  expect_block_end();
}

StmtPtr Parser::statement(const std::string& word, Position where) {
  if (word == "if") return if_statement(where);
  if (word == "for") return for_statement(where);
  if (word == "set") return set_statement(where);
  if (word == "macro") return macro(where);
  if (word == "call") return call_block(where);
  if (word == "filter") return filter_block(where);
  if (word == "with") return with_block(where);
  if (word == "break" || word == "continue") return loop_control(word, where);
  if (word == "generation") {
    expect_block_end();
    auto s = make(Stmt::Kind::kScope, where);
    s->blocks.push_back(body_until("endgeneration", word, where));
    return s;
  }
  if (has(kUnsupported, word))
    fail_at(source_, where, format("'{{% {} %}}' is not supported", word));
  if (word.starts_with("end") || word == "else" || word == "elif") {
    fail_at(source_, where, format("'{{% {} %}}' has no beginning", word));
  }
  fail_at(source_, where,
          format("unknown statement '{}'{}", printable(word), suggestion(word, kStatements)));
}

StmtPtr Parser::loop_control(const std::string& word, Position where) {
  if (loops_ == 0) fail_at(source_, where, format("'{}' outside of a loop", word));
  expect_block_end();
  return make(word == "break" ? Stmt::Kind::kBreak : Stmt::Kind::kContinue, where);
}

StmtPtr Parser::if_statement(Position where) {
  auto s = make(Stmt::Kind::kIf, where);
  std::string end = "elif";
  while (end == "elif") {
    s->values.push_back(tuple(false));
    expect_block_end();
    s->blocks.push_back(block_until({"elif", "else", "endif"}, end, "if", where));
  }
  if (end == "else") {
    expect_block_end();
    s->blocks.push_back(body_until("endif", "if", where));
  } else {
    expect_block_end();
  }
  return s;
}

StmtPtr Parser::for_statement(Position where) {
  auto s = make(Stmt::Kind::kFor, where);
  s->target = target(false);
  if (!skip_word("in")) fail_expected("'in'");
  s->values.push_back(tuple(false, false, "recursive"));
  s->values.push_back(skip_word("if") ? expression() : nullptr);
  s->recursive = skip_word("recursive");
  expect_block_end();
  std::string end;
  ++loops_;
  s->blocks.push_back(block_until({"else", "endfor"}, end, "for", where));
  --loops_;
  expect_block_end();
  if (end == "else") s->blocks.push_back(body_until("endfor", "for", where));
  return s;
}

// A name, name.attribute where allowed, or several with commas.
ExprPtr Parser::target(bool attribute) {
  const Position where = now().where;
  std::vector<ExprPtr> parts;
  bool several = false;
  do {
    if (!parts.empty() && now().kind == Token::Kind::kBlockEnd) break;
    if (skip_sign("(")) {
      NestedParse nested(*this);
      parts.push_back(target(attribute));
      expect_sign(")");
    } else {
      const Position at = now().where;
      const std::string name = expect_name("a name to assign to");
      if (has(std::initializer_list<std::string_view>{"true", "false", "none", "True", "False",
                                                      "None", "in", "if", "not"},
              name)) {
        fail_at(source_, at, format("cannot assign to '{}'", name));
      }
      auto node = make(Expr::Kind::kName, at);
      node->name = number_of(name);
      node->text = name;
      if (attribute && skip_sign(".")) {
        auto owner = std::move(node);
        node = make(Expr::Kind::kAttribute, at);
        node->text = expect_name("an attribute");
        node->children.push_back(std::move(owner));
      }
      parts.push_back(std::move(node));
    }
  } while (skip_sign(",") && (several = true) && !is_word("in") && !is_sign("="));
  if (!several) return std::move(parts[0]);
  return make(Expr::Kind::kTuple, where, std::move(parts));
}

StmtPtr Parser::set_statement(Position where) {
  auto t = target(true);
  if (skip_sign("=")) {
    auto s = make(Stmt::Kind::kSet, where);
    s->target = std::move(t);
    s->values.push_back(tuple());
    expect_block_end();
    return s;
  }
  if (t->kind == Expr::Kind::kTuple) fail_expected("'='");
  auto s = make(Stmt::Kind::kSetBlock, where);
  s->target = std::move(t);
  ExprPtr chain;
  while (skip_sign("|")) chain = filter(std::move(chain));
  s->values.push_back(std::move(chain));
  expect_block_end();
  s->blocks.push_back(body_until("endset", "set", where));
  return s;
}

std::unique_ptr<Signature> Parser::signature(const std::string& name) {
  auto s = std::make_unique<Signature>();
  s->name = name;
  expect_sign("(");
  while (!is_sign(")")) {
    if (!s->parameters.empty()) expect_sign(",");
    if (is_sign(")")) break;
    const std::string parameter = expect_name("a parameter");
    if (has(s->parameters, parameter)) fail_here(format("parameter '{}' twice", parameter));
    s->parameters.push_back(parameter);
    s->numbers.push_back(number_of(parameter));
    if (skip_sign("=")) {
      s->defaults.push_back(expression());
    } else if (!s->defaults.empty()) {
      fail_here(format("parameter '{}' without a default follows one with", parameter));
    }
  }
  expect_sign(")");
  return s;
}

Block Parser::macro_body(Signature& s, std::string_view end, std::string_view opened,
                         Position where) {
  macros_.push_back(&s);
  const int loops = std::exchange(loops_, 0);
  Block block = body_until(end, opened, where);
  loops_ = loops;
  macros_.pop_back();
  return block;
}

StmtPtr Parser::macro(Position where) {
  auto s = make(Stmt::Kind::kMacro, where);
  const std::string name = expect_name("a macro's name");
  s->name = number_of(name);
  s->signature = signature(name);
  expect_block_end();
  s->blocks.push_back(macro_body(*s->signature, "endmacro", "macro", where));
  return s;
}

StmtPtr Parser::call_block(Position where) {
  auto s = make(Stmt::Kind::kCall, where);
  s->signature = is_sign("(") ? signature("caller") : std::make_unique<Signature>();
  s->signature->name = "caller";
  s->values.push_back(expression());
  if (s->values[0]->kind != Expr::Kind::kCall) fail_at(source_, where, "'call' needs a call");
  expect_block_end();
  s->blocks.push_back(macro_body(*s->signature, "endcall", "call", where));
  return s;
}

StmtPtr Parser::filter_block(Position where) {
  auto s = make(Stmt::Kind::kFilter, where);
  ExprPtr chain;
  do {
    chain = filter(std::move(chain));
  } while (skip_sign("|"));
  s->values.push_back(std::move(chain));
  expect_block_end();
  s->blocks.push_back(body_until("endfilter", "filter", where));
  return s;
}

StmtPtr Parser::with_block(Position where) {
  auto s = make(Stmt::Kind::kWith, where);
  while (now().kind != Token::Kind::kBlockEnd) {
    if (!s->targets.empty()) expect_sign(",");
    const Position at = now().where;
    auto name = make(Expr::Kind::kName, at);
    name->text = expect_name("a name to assign to");
    name->name = number_of(name->text);
    s->targets.push_back(std::move(name));
    expect_sign("=");
    s->values.push_back(expression());
  }
  expect_block_end();
  s->blocks.push_back(body_until("endwith", "with", where));
  return s;
}

std::unique_ptr<Template> parse_template(std::string_view text, const std::string& source) {
  return Parser(text, source).run();
}

}  // namespace braid::jinja
