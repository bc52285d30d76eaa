#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/stack/spec.h"

namespace braid {
namespace {

const std::vector<KnownLayer> kKnown = {
    {"gqa", LayerKind::kMixer},      {"kda", LayerKind::kMixer},   {"mamba2", LayerKind::kMixer},
    {"swiglu", LayerKind::kChannel}, {"moe", LayerKind::kChannel}, {"engram", LayerKind::kMemory}};

std::string printed(std::string_view text) { return print_stack(parse_stack(text)); }

TEST_CASE("stack: canonical text") {
  const std::pair<const char*, const char*> cases[] = {
      {"gqa", "gqa"},
      {" 4 x(3x(kda,moe),mla,moe)\n# Kimi Linear\n", "4 x (3 x (kda, moe), mla, moe)"},
      {"12 x (3 x (gdn, moe), gqa{ gate = true }, moe)",
       "12 x (3 x (gdn, moe), gqa{gate=true}, moe)"},
      {"2 x (gqa, swiglu), loop 4 x (gqa, swiglu), gqa, swiglu",
       "2 x (gqa, swiglu), loop 4 x (gqa, swiglu), gqa, swiglu"},
      {"8x(gqa|mamba2,swiglu)", "8 x (gqa | mamba2, swiglu)"},
      {"8x(gqa+mamba2{a=1e+3}+kda,swiglu)", "8 x (gqa + mamba2{a=1e+3} + kda, swiglu)"},
      {"2 x ((gqa + kda))", "2 x gqa + kda"},
      {"3 x gqa", "3 x gqa"},
      {"3 x (gqa)", "3 x gqa"},
      {"1 x gqa, 1 x (a, b), ((c))", "gqa, a, b, c"},
      {"loop 1 x (gqa, moe)", "gqa, moe"},
      {"loop 3 x (1 x (gqa))", "loop 3 x gqa"},
      {"2 x (loop 3 x gqa)", "2 x (loop 3 x gqa)"},
      {"2 x (3 x (gqa))", "2 x (3 x gqa)"},
      {"007 x gqa", "7 x gqa"},
      {"kda{a=-5,b=1e-6,c=x.y:z/w,x=1,loop=2} # end", "kda{a=-5,b=1e-6,c=x.y:z/w,x=1,loop=2}"},
      {"gqa # one\r\n,# two\n\tswiglu", "gqa, swiglu"},
  };
  for (const auto& [text, wanted] : cases) {
    CAPTURE(text);
    CHECK(printed(text) == wanted);
    CHECK(printed(wanted) == wanted);
    CHECK(parse_stack(wanted) == parse_stack(text));
  }
}

TEST_CASE("stack: the tree keeps names, options and places") {
  const StackSpec spec = parse_stack("2 x (gqa{heads=4,gate=true} |\n  kda, moe)", kKnown);
  REQUIRE(spec.items.size() == 1);
  CHECK(spec.items[0].count == 2);
  REQUIRE(spec.items[0].items.size() == 2);
  const std::vector<LayerSpec>& pair = spec.items[0].items[0].layers;
  REQUIRE(pair.size() == 2);
  CHECK(pair[0].name == "gqa");
  CHECK(pair[0].line == 1);
  CHECK(pair[0].column == 6);
  CHECK(pair[0].options.str() == "heads=4,gate=true");
  CHECK(pair[0].options.items()[1].column == 18);
  CHECK(pair[1].name == "kda");
  CHECK(pair[1].line == 2);
  CHECK(pair[1].column == 3);
}

TEST_CASE("stack: trees differ by options, order, counts and loops") {
  const char* texts[] = {"gqa",       "kda",          "gqa{a=1}",     "gqa{a=2}",
                         "gqa, gqa",  "2 x gqa",      "loop 2 x gqa", "gqa | gqa",
                         "gqa + gqa", "2 x (gqa, a)", "2 x gqa, a"};
  for (const char* a : texts) {
    for (const char* b : texts) {
      CAPTURE(a);
      CAPTURE(b);
      CHECK((parse_stack(a) == parse_stack(b)) == (a == b));
    }
  }
}

struct Bad {
  const char* text;
  const char* message;  // the first line, whole
};

void check_error(const Bad& bad) {
  CAPTURE(bad.text);
  try {
    const StackSpec spec = parse_stack(bad.text, kKnown);
    FAIL_CHECK("accepted: " << print_stack(spec));
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kUsage);
    const std::string what = e.what();
    CHECK(what.substr(0, what.find('\n')) == bad.message);
    // The caret stands under the column that the message names.
    const size_t caret_line = what.rfind('\n') + 1;
    const size_t colon = what.find(':');
    const int column = std::stoi(what.substr(colon + 1));
    CHECK(what.size() - caret_line == static_cast<size_t>(2 + std::min(column, 61)));
    CHECK(what.back() == '^');
  }
}

TEST_CASE("stack: names") {
  const Bad cases[] = {
      {"4 x (kad, moe)", "stack 1:6: unknown layer 'kad'; did you mean 'kda'?"},
      {"gqa,\n  SwiGLU", "stack 2:3: unknown layer 'SwiGLU'; did you mean 'swiglu'?"},
      {"transformer",
       "stack 1:1: unknown layer 'transformer'; known: gqa, kda, mamba2, swiglu, moe, engram"},
      {"gqa | moe", "stack 1:7: '|' joins mixers; moe is a channel"},
      {"swiglu | gqa", "stack 1:1: '|' joins mixers; swiglu is a channel"},
      {"gqa | kda | engram", "stack 1:13: '|' joins mixers; engram is a memory"},
      {"x", "stack 1:1: 'x' needs a count before it: 4 x ..."},
      {"gqa x 4", "stack 1:5: 'x' needs a count before it: 4 x ..."},
      {"gqa, x (moe)", "stack 1:6: 'x' needs a count before it: 4 x ..."},
      {"gqa + moe", "stack 1:7: '+' joins mixers; moe is a channel"},
      {"gqa | kda + mamba2",
       "stack 1:11: mixers side by side are joined by '|' or by '+', not by both"},
      {"gqa | x", "stack 1:7: a mixer expected after '|', found 'x'"},
      {"gqa | loop", "stack 1:7: a mixer expected after '|', found 'loop'"},
  };
  for (const Bad& bad : cases) check_error(bad);
}

TEST_CASE("stack: parentheses") {
  const Bad cases[] = {
      {"4 x (gqa, moe", "stack 1:5: '(' is never closed; add ')'"},
      {"4 x (2 x (gqa, moe), moe", "stack 1:5: '(' is never closed; add ')'"},
      {"4 x (2 x (gqa, moe, moe", "stack 1:10: '(' is never closed; add ')'"},
      {"gqa)", "stack 1:4: ')' closes nothing; remove it or add '('"},
      {")", "stack 1:1: ')' closes nothing; remove it or add '('"},
      {"2 x (gqa))", "stack 1:10: ')' closes nothing; remove it or add '('"},
      {"()", "stack 1:2: empty parentheses; put layers between them"},
      {"4 x ()", "stack 1:6: empty parentheses; put layers between them"},
      {"(gqa", "stack 1:1: '(' is never closed; add ')'"},
      {"(", "stack 1:2: a layer is missing here; end with a layer, not a comma"},
      {"(gqa) | kda", "stack 1:7: '|' joins mixers, not groups"},
      {"(gqa) + kda", "stack 1:7: '+' joins mixers, not groups"},
      {"gqa + (kda)", "stack 1:7: '+' joins mixers, not groups"},
      {"gqa | (kda)", "stack 1:7: '|' joins mixers, not groups"},
      {"(gqa, moe) (gqa, moe)", "stack 1:12: ',' expected between layers, found '('"},
      {"(gqa, moe){a=1}", "stack 1:11: options stand behind a layer's name: layer{key=value}"},
      {"[gqa, moe]", "stack 1:1: a layer, a count or '(' expected, found '['"},
  };
  for (const Bad& bad : cases) check_error(bad);
  std::string deep = std::string(32, '(') + "gqa" + std::string(32, ')');
  CHECK(printed(deep) == "gqa");
  deep = "(" + deep + ")";
  check_error({deep.c_str(), "stack 1:33: parentheses nested deeper than 32"});
}

TEST_CASE("stack: commas") {
  const Bad cases[] = {
      {",", "stack 1:1: stray comma: a layer is missing before it"},
      {", gqa", "stack 1:1: stray comma: a layer is missing before it"},
      {"gqa,", "stack 1:5: a layer is missing here; end with a layer, not a comma"},
      {"gqa,,moe", "stack 1:5: stray comma: a layer is missing before it"},
      {"2 x (gqa, moe,)", "stack 1:15: a layer is missing before ')'"},
      {"2 x (, gqa)", "stack 1:6: stray comma: a layer is missing before it"},
      {"gqa moe", "stack 1:5: ',' expected between layers, found 'moe'"},
      {"2 x (gqa moe)", "stack 1:10: ',' expected between layers, found 'moe'"},
      {"gqa; moe", "stack 1:4: ',' expected between layers, found ';'"},
      {"gqa 2 x moe", "stack 1:5: ',' expected between layers, found '2'"},
      {"| gqa", "stack 1:1: a mixer is missing before '|'"},
      {"gqa |", "stack 1:6: a mixer expected after '|', found the end"},
      {"gqa || kda", "stack 1:6: a mixer expected after '|', found '|'"},
      {"+ gqa", "stack 1:1: a mixer is missing before '+'"},
      {"gqa +", "stack 1:6: a mixer expected after '+', found the end"},
      {"gqa | , kda", "stack 1:7: a mixer expected after '|', found ','"},
      {"gqa | 2 x kda", "stack 1:7: a mixer expected after '|', found '2'"},
  };
  for (const Bad& bad : cases) check_error(bad);
}

TEST_CASE("stack: counts and loops") {
  const Bad cases[] = {
      {"0 x gqa", "stack 1:1: count 0: at least 1, or leave the layer out"},
      {"loop 0 x gqa", "stack 1:6: count 0: at least 1, or leave the layer out"},
      {"-1 x gqa", "stack 1:1: a layer, a count or '(' expected, found '-'"},
      {"1.5 x gqa", "stack 1:2: 'x' expected after 1, found '.'; write 1 x ..."},
      {"10001 x gqa", "stack 1:1: count 10001 is above 10000, the most sub-layers a stack may run"},
      {"99999999999999999999999999999 x gqa",
       "stack 1:1: count 999999999999999999999999... is above 10000, the most sub-layers a stack "
       "may run"},
      {"gqa, 100 x (100 x (gqa, moe))",
       "stack 1:6: more than 10000 sub-layers once counts and loops are unrolled"},
      {"10000 x (10000 x (10000 x (10000 x gqa)))",
       "stack 1:19: more than 10000 sub-layers once counts and loops are unrolled"},
      {"loop 10000 x (gqa, moe)",
       "stack 1:1: more than 10000 sub-layers once counts and loops are unrolled"},
      {"10000 x gqa, moe",
       "stack 1:14: more than 10000 sub-layers once counts and loops are unrolled"},
      {"6000 x gqa | kda",
       "stack 1:1: more than 10000 sub-layers once counts and loops are unrolled"},
      {"4", "stack 1:2: 'x' expected after 4, found the end; write 4 x ..."},
      {"4 gqa", "stack 1:3: 'x' expected after 4, found 'gqa'; write 4 x ..."},
      {"4 * gqa", "stack 1:3: 'x' expected after 4, found '*'; write 4 x ..."},
      {"4xgqa", "stack 1:2: 'x' expected after 4, found 'xgqa'; write 4 x ..."},
      {"4 (gqa)", "stack 1:3: 'x' expected after 4, found '('; write 4 x ..."},
      {"4 \xC3\x97 gqa", "stack 1:3: 'x' expected after 4, found '?'; write 4 x ..."},
      {"4 x", "stack 1:4: a layer or '(' expected after 'x', found the end"},
      {"4 x , gqa", "stack 1:5: a layer or '(' expected after 'x', found ','"},
      {"2 x 3 x gqa", "stack 1:5: a count inside a count needs parentheses: 4 x (3 x ...)"},
      {"2 x loop 3 x gqa", "stack 1:5: a count inside a count needs parentheses: 4 x (3 x ...)"},
      {"loop gqa", "stack 1:6: loop needs a count: loop 4 x ..., found 'gqa'"},
      {"loop (gqa, moe)", "stack 1:6: loop needs a count: loop 4 x ..., found '('"},
      {"loop", "stack 1:5: loop needs a count: loop 4 x ..., found the end"},
      {"loop x gqa", "stack 1:6: loop needs a count: loop 4 x ..., found 'x'"},
      {"loop loop 2 x gqa", "stack 1:6: loop needs a count: loop 4 x ..., found 'loop'"},
      {"loop 4 gqa", "stack 1:8: 'x' expected after 4, found 'gqa'; write 4 x ..."},
      {"2 loop x gqa", "stack 1:3: 'x' expected after 2, found 'loop'; write 2 x ..."},
  };
  for (const Bad& bad : cases) check_error(bad);
}

TEST_CASE("stack: options") {
  const Bad cases[] = {
      {"gqa{}", "stack 1:4: empty braces; write gqa or gqa{key=value}"},
      {"gqa{", "stack 1:5: '{' is never closed; add '}'"},
      {"gqa{heads=4", "stack 1:4: '{' is never closed; add '}'"},
      {"gqa{heads=4,", "stack 1:13: '{' is never closed; add '}'"},
      {"gqa{heads=4,}", "stack 1:13: a key expected, found '}'; options are key=value"},
      {"gqa{,heads=4}", "stack 1:5: a key expected, found ','; options are key=value"},
      {"gqa{4=heads}", "stack 1:5: a key expected, found '4'; options are key=value"},
      {"gqa{heads}", "stack 1:10: '=' expected after heads, found '}'; options are key=value"},
      {"gqa{heads:4}", "stack 1:10: '=' expected after heads, found ':'; options are key=value"},
      {"gqa{heads=}", "stack 1:11: a value expected after heads=, found '}'"},
      {"gqa{heads=,gate=true}", "stack 1:11: a value expected after heads=, found ','"},
      {"gqa{heads=\"4\"}", "stack 1:11: a value expected after heads=, found '\"'"},
      {"gqa{heads==4}", "stack 1:11: a value expected after heads=, found '='"},
      {"gqa{heads=4 gate=true}", "stack 1:13: ',' or '}' expected after heads=4, found 'gate'"},
      {"gqa{heads=4*2}", "stack 1:12: ',' or '}' expected after heads=4, found '*'"},
      {"gqa{heads=4, heads=4}", "stack 1:14: option 'heads' of gqa is given twice; keep one"},
      {"gqa heads=4", "stack 1:5: ',' expected between layers, found 'heads'"},
      {"gqa=4", "stack 1:4: '=' belongs inside braces: layer{key=value}"},
      {"gqa}", "stack 1:4: '}' closes nothing; remove it or add '{'"},
      {"{heads=4}", "stack 1:1: options stand behind a layer's name: layer{key=value}"},
      {"2 x {heads=4}", "stack 1:5: options stand behind a layer's name: layer{key=value}"},
      {"gqa{a=1}{b=2}", "stack 1:9: options stand behind a layer's name: layer{key=value}"},
  };
  for (const Bad& bad : cases) check_error(bad);
}

TEST_CASE("stack: nothing, noise and size") {
  const Bad cases[] = {
      {"", "stack 1:1: no layers; write for example 4 x (kda, swiglu)"},
      {"  \n\t", "stack 2:2: no layers; write for example 4 x (kda, swiglu)"},
      {"# only a comment", "stack 1:17: no layers; write for example 4 x (kda, swiglu)"},
      {"\x01\x02", "stack 1:1: a layer, a count or '(' expected, found '?'"},
      {"gqa, \xFF\xFE", "stack 1:6: a layer, a count or '(' expected, found '?'"},
      {"\xE4\xBD\xA0, gqa", "stack 1:1: a layer, a count or '(' expected, found '?'"},
  };
  for (const Bad& bad : cases) check_error(bad);
  const std::string_view zero("gqa\0, moe", 9);
  CHECK_THROWS_WITH(parse_stack(zero),
                    "stack 1:4: ',' expected between layers, found '?'\n  gqa?, moe\n     ^");
  CHECK_THROWS_AS(parse_stack(std::string(kMaxStackText + 1, ' ')), Error);
}

TEST_CASE("stack: a long line is cut around the caret") {
  std::string text;
  for (int i = 0; i < 100; ++i) text += "gqa, moe, ";
  text += "kad";
  try {
    parse_stack(text, kKnown);
    FAIL("accepted");
  } catch (const Error& e) {
    const std::string what = e.what();
    CHECK(what.find("stack 1:1001: unknown layer 'kad'") == 0);
    const size_t line = what.find('\n') + 3;
    const size_t caret = what.rfind('\n') + 3;
    CHECK(what.substr(line + (what.size() - 1 - caret), 3) == "kad");
    CHECK(what.size() < 300);
  }
}

TEST_CASE("stack: a long text with many options is read in linear time") {
  std::string layer = "gqa{a0=1";
  for (int i = 1; i < 20; ++i) layer += format(",a{}=1", i);
  layer += "}";
  std::string text = layer;
  while (text.size() + layer.size() + 2 < kMaxStackText) text += ",\n" + layer;
  const StackSpec spec = parse_stack(text);
  CHECK(spec.items.back().layers[0].line == static_cast<int>(spec.items.size()));
}

TEST_CASE("stack: trees made by code print canonically") {
  StackItem leaf{1, true, {LayerSpec{"gqa", {}}}, {}};
  StackItem inner{1, false, {}, {leaf}};
  StackItem outer{3, true, {}, {inner, StackItem{}}};
  CHECK(print_stack(StackSpec{{outer}}) == "loop 3 x gqa");
  CHECK(parse_stack("loop 3 x gqa") == canonical(StackSpec{{outer}}));
  CHECK_THROWS_AS(print_stack(StackSpec{{StackItem{1, false, {LayerSpec{"x", {}}}, {}}}}), Error);
  LayerSpec spaced{"gqa", {}};
  spaced.options.set("heads", "4 4");
  CHECK_THROWS_AS(print_stack(StackSpec{{StackItem{1, false, {spaced}, {}}}}), Error);
}

}  // namespace
}  // namespace braid
