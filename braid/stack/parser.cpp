// Recursive descent over the grammar in spec.h. Every error says what would be right at its place.

#include <vector>

#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/base/suggest.h"
#include "braid/stack/lexer.h"
#include "braid/stack/spec.h"

namespace braid {
namespace {

using Kind = StackToken::Kind;

std::string quoted(const StackToken& token) {
  return token.kind == Kind::kEnd ? std::string("the end") : format("'{}'", printable(token.text));
}

const char* kind_name(LayerKind kind) {
  switch (kind) {
    case LayerKind::kMixer:
      return "mixer";
    case LayerKind::kChannel:
      return "channel";
    case LayerKind::kMemory:
      return "memory";
  }
  return "layer";
}

class Parser {
 public:
  Parser(std::string_view text, std::span<const KnownLayer> known) : lexer_(text), known_(known) {}

  StackSpec parse() {
    if (lexer_.text().size() > kMaxStackText) {
      stack_error(
          lexer_.text().substr(0, 40), 0,
          format("{} bytes; an expression has at most {}", lexer_.text().size(), kMaxStackText));
    }
    if (lexer_.peek().kind == Kind::kEnd)
      fail(lexer_.peek(), "no layers; write for example 4 x (kda, swiglu)");
    StackSpec spec{parse_items()};
    const StackToken rest = lexer_.next();
    if (rest.is(')')) fail(rest, "')' closes nothing; remove it or add '('");
    if (rest.kind != Kind::kEnd) fail_separator(rest);
    return spec;
  }

 private:
  [[noreturn]] void fail(const StackToken& at, const std::string& message) const {
    stack_error(lexer_.text(), at.at, message);
  }

  [[noreturn]] void fail_separator(const StackToken& found) const {
    if (found.is('=')) fail(found, "'=' belongs inside braces: layer{key=value}");
    if (found.is('}')) fail(found, "'}' closes nothing; remove it or add '{'");
    if (found.is('{')) fail(found, "options stand behind a layer's name: layer{key=value}");
    if (is_join(found)) fail_group_join(found);
    if (found.is("x")) fail(found, "'x' needs a count before it: 4 x ...");
    fail(found, format("',' expected between layers, found {}", quoted(found)));
  }

  std::vector<StackItem> parse_items() {
    std::vector<StackItem> items;
    int64_t total = 0;
    do {
      const StackToken first = lexer_.peek();
      items.push_back(parse_item());
      total += count_sublayers(items.back());
      check_total(total, first);
    } while (take(','));
    return items;
  }

  bool take(char sign) {
    if (!lexer_.peek().is(sign)) return false;
    lexer_.next();
    return true;
  }

  StackItem parse_item() {
    StackItem item;
    const StackToken first = lexer_.peek();
    if (first.is("loop")) {
      lexer_.next();
      item.loop = true;
      if (lexer_.peek().kind != Kind::kInt) {
        fail(lexer_.peek(),
             format("loop needs a count: loop 4 x ..., found {}", quoted(lexer_.peek())));
      }
    }
    if (lexer_.peek().kind == Kind::kInt) item.count = parse_count();
    const StackToken body = lexer_.peek();
    if (body.is('(')) {
      item.items = parse_group();
      if (is_join(lexer_.peek())) fail_group_join(lexer_.peek());
    } else if (body.kind == Kind::kName && !body.is("loop") && !body.is("x")) {
      parse_layers(item);
    } else {
      fail_item(body, body.at != first.at);
    }
    return item;
  }

  [[noreturn]] void fail_item(const StackToken& found, bool counted) const {
    if (counted && (found.kind == Kind::kInt || found.is("loop"))) {
      fail(found, "a count inside a count needs parentheses: 4 x (3 x ...)");
    }
    if (found.is("x")) fail(found, "'x' needs a count before it: 4 x ...");
    if (found.is('{')) fail(found, "options stand behind a layer's name: layer{key=value}");
    if (counted) fail(found, format("a layer or '(' expected after 'x', found {}", quoted(found)));
    if (found.is(',')) fail(found, "stray comma: a layer is missing before it");
    if (found.kind == Kind::kEnd)
      fail(found, "a layer is missing here; end with a layer, not a comma");
    if (found.is(')')) {
      fail(found, open_.empty() ? "')' closes nothing; remove it or add '('"
                                : "a layer is missing before ')'");
    }
    if (is_join(found)) fail(found, format("a mixer is missing before {}", quoted(found)));
    fail(found, format("a layer, a count or '(' expected, found {}", quoted(found)));
  }

  int64_t parse_count() {
    const StackToken number = lexer_.next();
    const auto count = parse_int(number.text);
    if (!count || *count > kMaxSublayers) {
      fail(number, format("count {} is above {}, the most sub-layers a stack may run",
                          printable(number.text, 24), kMaxSublayers));
    }
    if (*count < 1) fail(number, "count 0: at least 1, or leave the layer out");
    const StackToken x = lexer_.peek();
    if (!x.is("x")) {
      fail(x, format("'x' expected after {}, found {}; write {} x ...", number.text, quoted(x),
                     number.text));
    }
    lexer_.next();
    return *count;
  }

  std::vector<StackItem> parse_group() {
    const StackToken open = lexer_.next();
    if (open_.size() == kMaxNesting) {
      fail(open, format("parentheses nested deeper than {}", kMaxNesting));
    }
    open_.push_back(open);
    if (lexer_.peek().is(')')) fail(lexer_.peek(), "empty parentheses; put layers between them");
    std::vector<StackItem> items = parse_items();
    const StackToken close = lexer_.next();
    if (close.kind == Kind::kEnd) fail(open, "'(' is never closed; add ')'");
    if (!close.is(')')) fail_separator(close);
    open_.pop_back();
    return items;
  }

  static bool is_join(const StackToken& token) { return token.is('|') || token.is('+'); }

  [[noreturn]] void fail_group_join(const StackToken& sign) const {
    fail(sign, format("{} joins mixers, not groups", quoted(sign)));
  }

  void parse_layers(StackItem& item) {
    std::vector<StackToken> names = {lexer_.next()};
    item.layers.push_back(parse_layer(names.back()));
    const StackToken sign = lexer_.peek();
    if (!is_join(sign)) return;
    item.join = sign.is('+') ? Join::kSum : Join::kMean;
    while (is_join(lexer_.peek())) {
      const StackToken again = lexer_.next();
      if (again.text != sign.text) {
        fail(again, "mixers side by side are joined by '|' or by '+', not by both");
      }
      const StackToken name = lexer_.peek();
      if (name.is('(')) fail(name, format("{} joins mixers, not groups", quoted(sign)));
      if (name.kind != Kind::kName || !is_stack_name(name.text)) {
        fail(name, format("a mixer expected after {}, found {}", quoted(sign), quoted(name)));
      }
      names.push_back(lexer_.next());
      item.layers.push_back(parse_layer(names.back()));
    }
    for (const StackToken& name : names) {
      const KnownLayer* known = find(name.text);
      if (known && known->kind != LayerKind::kMixer) {
        fail(name, format("{} joins mixers; {} is a {}", quoted(sign), name.text,
                          kind_name(known->kind)));
      }
    }
  }

  const KnownLayer* find(std::string_view name) const {
    for (const KnownLayer& layer : known_) {
      if (layer.name == name) return &layer;
    }
    return nullptr;
  }

  LayerSpec parse_layer(const StackToken& name) {
    if (!known_.empty() && !find(name.text)) {
      std::vector<std::string_view> names;
      for (const KnownLayer& layer : known_) names.push_back(layer.name);
      fail(name, format("unknown layer {}{}", quoted(name), suggestion(name.text, names)));
    }
    LayerSpec layer;
    const TextPlace place = place_of(name.at);
    layer.name = name.text;
    layer.line = place.line;
    layer.column = place.column;
    if (lexer_.peek().is('{')) parse_options(layer);
    return layer;
  }

  void parse_options(LayerSpec& layer) {
    const StackToken open = lexer_.next();
    if (lexer_.peek().is('}')) {
      fail(open, format("empty braces; write {} or {}{{key=value}}", layer.name, layer.name));
    }
    while (true) {
      parse_option(layer);
      const StackToken after = lexer_.next();
      if (after.is('}')) return;
      if (after.kind == Kind::kEnd) fail(open, "'{' is never closed; add '}'");
      if (!after.is(',')) {
        fail(after,
             format("',' or '}}' expected after {}={}, found {}", layer.options.items().back().key,
                    layer.options.items().back().value, quoted(after)));
      }
    }
  }

  void parse_option(LayerSpec& layer) {
    const StackToken key = lexer_.next();
    if (key.kind == Kind::kEnd) fail(key, "'{' is never closed; add '}'");
    if (key.kind != Kind::kName) {
      fail(key, format("a key expected, found {}; options are key=value", quoted(key)));
    }
    for (const Options::Item& item : layer.options.items()) {
      if (item.key == key.text) {
        fail(key, format("option '{}' of {} is given twice; keep one", key.text, layer.name));
      }
    }
    const StackToken equals = lexer_.next();
    if (!equals.is('=')) {
      fail(equals, format("'=' expected after {}, found {}; options are key=value", key.text,
                          quoted(equals)));
    }
    const StackToken value = lexer_.value();
    if (value.text.empty()) {
      const StackToken found = lexer_.peek();
      fail(found, format("a value expected after {}=, found {}", key.text, quoted(found)));
    }
    layer.options.set(std::string(key.text), std::string(value.text), place_of(key.at).column);
  }

  // place_in walks from the start; names come in order, so walking on from the last one keeps a
  // long text linear.
  TextPlace place_of(size_t at) {
    const TextPlace step = place_in(lexer_.text().substr(walked_), at - walked_);
    walked_ = at;
    walked_place_ = step.line > 1
                        ? TextPlace{walked_place_.line + step.line - 1, step.column}
                        : TextPlace{walked_place_.line, walked_place_.column + step.column - 1};
    return walked_place_;
  }

  void check_total(int64_t total, const StackToken& at) const {
    if (total <= kMaxSublayers) return;
    fail(at, format("more than {} sub-layers once counts and loops are unrolled", kMaxSublayers));
  }

  StackLexer lexer_;
  std::span<const KnownLayer> known_;
  std::vector<StackToken> open_;
  size_t walked_ = 0;
  TextPlace walked_place_;
};

}  // namespace

StackSpec parse_stack(std::string_view text, std::span<const KnownLayer> known) {
  return canonical(Parser(text, known).parse());
}

}  // namespace braid
