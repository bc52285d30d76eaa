#include "braid/text/jinja/chat_template.h"

#include <doctest/doctest.h>
#include <unistd.h>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"

using namespace braid;

namespace {

std::string rendered(std::string_view text, const std::string& messages = "[]",
                     const ChatOptions& options = {}) {
  return ChatTemplate::parse(text, "t").render(Json::parse(messages), {}, options);
}

// The message of the error that parsing or rendering ends in.
std::string error_of(std::string_view text, const std::string& messages = "[]",
                     const ChatOptions& options = {}) {
  try {
    return "rendered: " + rendered(text, messages, options);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kBadInput);
    return e.what();
  }
}

bool mentions(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

std::string repeat(std::string_view s, size_t n) {
  std::string out;
  for (size_t i = 0; i < n; ++i) out += s;
  return out;
}

struct Folder {
  Folder() { make_folders(path); }
  ~Folder() { remove_folder(path); }
  const std::string path = format("/tmp/braid_chat_template_{}", getpid());
};

}  // namespace

TEST_CASE("a chat template renders messages, tools and extras") {
  const char* text =
      "{{ bos_token }}{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}</>\n{% endfor %}"
      "{% if tools %}{{ tools|tojson }}{% endif %}{% if add_generation_prompt %}<a>{% endif %}"
      "{{ 'think' if enable_thinking }}";
  const auto t = ChatTemplate::parse(text);
  const Json messages = Json::parse(R"([{"role":"user","content":" Hi "}])");
  ChatOptions options;
  options.extras = {{"bos_token", "<s>"}, {"enable_thinking", true}};
  CHECK(t.render(messages, {}, options) == "<s><user>Hi</>\n<a>think");
  options.add_generation_prompt = false;
  options.extras = {};
  CHECK(t.render(messages, Json::parse(R"([{"b":1.0,"a":"é"}])"), options) ==
        "<user>Hi</>\n[{\"b\": 1.0, \"a\": \"é\"}]");
}

TEST_CASE("tools and documents that are not given are none, not undefined") {
  CHECK(rendered("{{ tools is none }}{{ documents is defined }}{{ bos_token is defined }}") ==
        "TrueTrueFalse");
}

TEST_CASE("what is not supported is named with its place when the template is loaded") {
  CHECK(error_of("a\n {% include 'x' %}") == "t:2:5: '{% include %}' is not supported");
  CHECK(mentions(error_of("{{ x|uper }}"),
                 "t:1:6: filter 'uper' is not supported; did you mean 'upper'?"));
  CHECK(mentions(error_of("{% if false %}{{ x is strin }}{% endif %}"), "t:1:23: test 'strin'"));
  CHECK(mentions(error_of("{{ x|map('uper')|list }}"), "t:1:10: filter 'uper'"));
  CHECK(mentions(error_of("{% fro x in y %}"),
                 "t:1:4: unknown statement 'fro'; did you mean 'for'?"));
  CHECK(mentions(error_of("{% for x in y %}"), "has no '{% endfor %}'"));
  CHECK(mentions(error_of("{% endif %}"), "'{% endif %}' has no beginning"));
  CHECK(mentions(error_of("{{ (1 }}"), "t:1:7: unexpected '}', expected ')'"));
  CHECK(mentions(error_of("{{ 'a"), "t:1:4: a string has no end"));
  CHECK(mentions(error_of("\n{# x"), "t:2:1: a comment"));
  CHECK(mentions(error_of("{% break %}"), "'break' outside of a loop"));
}

TEST_CASE("errors while rendering say where") {
  CHECK(error_of("\n  {{ raise_exception('roles must alternate') }}") ==
        "t:2:21: roles must alternate");
  CHECK(error_of("{{ messages[0].tools.x }}", R"([{}])") ==
        "t:1:22: 'dict object' has no attribute 'tools'");
  CHECK(error_of("{{ nothing.x }}") == "t:1:12: 'nothing' is undefined");
  CHECK(mentions(error_of("{{ 1 + 'a' }}"), "'int' and 'str'"));
}

TEST_CASE("what was passed in cannot be changed, what the template made can") {
  CHECK(mentions(error_of("{% set _ = messages.append(1) %}"), "passed in"));
  CHECK(mentions(error_of("{% set _ = messages[0].update({}) %}", "[{}]"), "passed in"));
  CHECK(rendered("{% set l = messages[:] %}{% set _ = l.append(2) %}{{ l }}", "[1]") == "[1, 2]");
  CHECK(rendered("{% set d = dict(messages[0]) %}{% set _ = d.update(b=2) %}{{ d }}",
                 R"([{"a":1}])") == "{'a': 1, 'b': 2}");
}

TEST_CASE("a template that runs away ends in an error") {
  ChatOptions small;
  small.limits = {.work = 1'000'000, .memory = 16 << 20, .output = 1 << 20, .depth = 600};
  const std::string loops = repeat("{% for a in range(100000) %}", 4) + repeat("{% endfor %}", 4);
  CHECK(mentions(error_of(loops, "[]", small), "more than"));
  CHECK(mentions(error_of("{% set ns = namespace(s='ab') %}{% for i in range(60) %}"
                          "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
                          "[]", small),
                 "bytes"));
  CHECK(mentions(error_of("{{ 'a' * 99999999999 }}"), "bytes"));
  CHECK(mentions(error_of("{{ [1, 2] * 9223372036854775807 }}"), "bytes"));
  CHECK(mentions(error_of("{% set l = [1] %}{% for x in l %}{% set _ = l.append(x) %}{% endfor %}",
                          "[]", small),
                 "more than"));
  CHECK(mentions(error_of("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"), "inside each other"));
  CHECK(mentions(error_of("{% set l = [] %}{% set _ = l.append(l) %}{{ l }}"), "nested"));
  CHECK(mentions(error_of("{% set l = [] %}{% set _ = l.append(l) %}{{ l|tojson }}"), "nested"));
  CHECK(mentions(error_of("{% set l = [] %}{% set m = [] %}{% set _ = l.append(m) %}"
                          "{% set _ = m.append(l) %}{{ l == m }}"),
                 "nested"));
  CHECK(mentions(error_of("{{ range(100001) }}"), "more than 100000 numbers"));
  CHECK(mentions(error_of("{{ range(-9223372036854775807, 9223372036854775807) }}"), "numbers"));
  CHECK(mentions(error_of("{{ '%99999999d' % 1 }}"), "wider"));
  CHECK(mentions(error_of("{{ 'a'.ljust(99999999) }}"), "wider"));
  CHECK(mentions(error_of("{{ 9223372036854775807 + 1 }}"), "64 bits"));
  CHECK(mentions(error_of("{{ 9223372036854775808 }}"), "64 bits"));
  CHECK(mentions(error_of("{{ 3 ** 99 }}"), "64 bits"));
  CHECK(mentions(error_of("{{ " + repeat("(", 5000) + "1" + repeat(")", 5000) + " }}"), "levels"));
  CHECK(mentions(error_of("{{ " + repeat("[", 5000) + repeat("]", 5000) + " }}"), "levels"));
  CHECK(mentions(error_of("{{ " + repeat("- ", 5000) + "1 }}"), "levels"));
  CHECK(mentions(error_of("{{ " + repeat("not ", 5000) + "1 }}"), "levels"));
  CHECK(mentions(error_of("{{ 1" + repeat(" + 1", 5000) + " }}"), "levels"));
  CHECK(mentions(error_of("{{ x" + repeat(".x", 5000) + " }}"), "levels"));
  CHECK(mentions(error_of("{{ x" + repeat("|e", 5000) + " }}"), "levels"));
  CHECK(mentions(error_of("{{ 1" + repeat(" if 1 else 1", 5000) + " }}"), "levels"));
  CHECK(mentions(error_of("{{ x" + repeat("(a=x", 5000) + repeat(")", 5000) + " }}"), "levels"));
  CHECK(mentions(error_of(repeat("{% if 1 %}", 5000) + repeat("{% endif %}", 5000)), "levels"));
  CHECK(rendered("{{ 'a'" + repeat(" ~ 'a'", 5000) + " }}") == repeat("a", 5001));
}

TEST_CASE("whole numbers at the ends of 64 bits") {
  const std::string least = "(-9223372036854775807 - 1)";
  CHECK(rendered("{{ " + least + " % 3 }}") == "1");
  CHECK(rendered("{{ 5 % -3 }} {{ -6 % 3 }}") == "-1 0");
  CHECK(rendered("{{ range(" + least + ", 9223372036854775807, 9223372036854775807)|list }}") ==
        "[-9223372036854775808, -1, 9223372036854775806]");
  CHECK(rendered("{{ range(" + least + ", 9223372036854775807, 9223372036854775807)[2] }}") ==
        "9223372036854775806");
  CHECK(rendered("{{ 'a'|center(" + least + ") }}{{ 'b'.zfill(" + least + ") }}") == "ab");
  for (const char* length : {"-9223372036854775807 - 1", "-9223372036854775807", "2"})
    CHECK(mentions(error_of(format("{{{{ ''|truncate({}) }}}}", length)), "length"));
}

TEST_CASE("round takes halves of whole numbers to the even side and says what does not fit") {
  CHECK(rendered("{{ 15|round(-1) }} {{ 25|round(-1) }} {{ -26|round(-1) }}") == "20 20 -30");
  CHECK(rendered("{{ 9007199254740993|round(-0) }} {{ 1234567890123456785|round(-1) }}") ==
        "9007199254740993 1234567890123456780");
  CHECK(rendered("{{ 4999999999999999999|round(-19) }} {{ 7|round(-300) }}") == "0 0");
  CHECK(mentions(error_of("{{ 9223372036854775807|round(-1) }}"), "64 bits"));
  CHECK(mentions(error_of("{{ 9223372036854775807|round(-19) }}"), "64 bits"));
}

TEST_CASE("strftime_now reads the clock it is given") {
  ChatOptions options;
  options.clock = [] {
    std::tm t{};
    t.tm_year = 126;
    t.tm_mon = 6;
    t.tm_mday = 4;
    return t;
  };
  CHECK(rendered("{{ strftime_now('%d %b %Y') }}", "[]", options) == "04 Jul 2026");
  CHECK(rendered("[{{ strftime_now('') }}]", "[]", options) == "[]");
}

TEST_CASE("the template of a folder: the file wins over the config, lists have a default") {
  const Folder folder;
  const Json none;
  CHECK(!load_chat_template(folder.path));
  const std::string config = folder.path + "/tokenizer_config.json";
  write_file(config, R"({"bos_token": "<s>", "eos_token": {"content": "</s>", "lstrip": false},
    "chat_template": [{"name": "default", "template": "D{{ bos_token }}"},
                      {"name": "tool_use", "template": "T{{ eos_token }}"}]})");
  auto found = load_chat_template(folder.path);
  REQUIRE(found);
  ChatOptions options;
  options.extras = found->special_tokens;
  CHECK(found->choose(false).render(none, {}, options) == "D<s>");
  CHECK(found->choose(true).render(none, {}, options) == "T</s>");
  write_file(folder.path + "/chat_template.json", R"({"chat_template": "J"})");
  CHECK(load_chat_template(folder.path)->base.render(none) == "J");
  write_file(folder.path + "/chat_template.jinja", "F\n");
  CHECK(load_chat_template(folder.path)->choose(true).render(none) == "F");
  write_file(folder.path + "/chat_template.jinja", "{% if %}");
  try {
    load_chat_template(folder.path);
    FAIL("a bad template was loaded");
  } catch (const Error& e) {
    CHECK(mentions(e.what(), folder.path + "/chat_template.jinja:1:7: expected an expression"));
  }
}

TEST_CASE("a folder's template in another form than it can have is named with its file") {
  const Folder folder;
  for (const char* file : {"chat_template.json", "tokenizer_config.json"}) {
    const std::string path = folder.path + "/" + file;
    for (const char* value : {"5", "{}", "[7]", R"([{"name":"default"}])", R"([{"template":"x"}])",
                              R"([{"name":"default","template":null}])"}) {
      CAPTURE(value);
      write_file(path, R"({"chat_template":)" + std::string(value) + "}");
      CHECK_THROWS_WITH_AS(load_chat_template(folder.path), doctest::Contains(path.c_str()), Error);
    }
    remove_file(path);
  }
  write_file(folder.path + "/chat_template.json", "{}");
  CHECK_THROWS_WITH_AS(load_chat_template(folder.path),
                       doctest::Contains("chat_template.json has no chat_template"), Error);
}

TEST_CASE("the default template is ChatML") {
  CHECK(rendered(default_chat_template(), R"([{"role":"user","content":"Hi"}])") ==
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
}
