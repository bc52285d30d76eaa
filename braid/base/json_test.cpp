#include "braid/base/json.h"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include "braid/base/error.h"

namespace braid {
namespace {

std::string error_of(std::string_view text, const JsonLimits& limits = {}) {
  try {
    Json::parse(text, limits);
  } catch (const Error& e) {
    CHECK(e.kind() == ErrorKind::kBadInput);
    return e.what();
  }
  return "no error";
}

TEST_CASE("json: built values print in the order they were set") {
  Json json =
      Json::object({{"name", "gqa/prefill"}, {"ms", 1.5}, {"shape", Json::array({4, 128})}});
  json.set("ok", true).set("none", nullptr).set("ms", 0.1);
  CHECK(json.dump() == R"({"name":"gqa/prefill","ms":0.1,"shape":[4,128],"ok":true,"none":null})");
  CHECK(Json::object().dump() == "{}");
  CHECK(Json::array().dump_pretty() == "[]\n");
  CHECK(Json::object({{"a", Json::array({1, Json::object()})}}).dump_pretty() ==
        "{\n  \"a\": [\n    1,\n    {}\n  ]\n}\n");
  Json grown;
  CHECK(grown.push(1).push("two").dump() == R"([1,"two"])");
}

TEST_CASE("json: numbers survive a round trip exactly") {
  const Json whole[] = {0, -1, INT64_MIN, INT64_MAX, UINT64_MAX, uint8_t{7}};
  for (const Json& json : whole) CHECK(Json::parse(json.dump()) == json);
  CHECK(Json(INT64_MIN).dump() == "-9223372036854775808");
  CHECK(Json(UINT64_MAX).dump() == "18446744073709551615");
  CHECK(Json(uint64_t{5}) == Json(5));
  const double reals[] = {0.1, 1.0, -0.0, 1e-300, 5e-324, 1.7976931348623157e308, 1e22, 1.0 / 3};
  for (const double real : reals) {
    const Json back = Json::parse(Json(real).dump());
    CHECK(back.kind() == Json::Kind::kReal);
    CHECK(back.as_real() == real);
    CHECK(std::signbit(back.as_real()) == std::signbit(real));
  }
  CHECK(Json(0.1).dump() == "0.1");
  CHECK(Json(1.0).dump() == "1.0");
  CHECK(Json(std::numeric_limits<double>::infinity()).dump() == "null");
  CHECK(Json(std::numeric_limits<double>::quiet_NaN()).dump() == "null");
  // Some Hugging Face configs hold this one.
  CHECK(Json::parse("1000000000000000019884624838656").as_real() == 1e30);
}

TEST_CASE("json: strings are escaped, broken UTF-8 is replaced") {
  CHECK(Json("a\"\\\n\x01\xC3\xA9").dump() == "\"a\\\"\\\\\\n\\u0001\xC3\xA9\"");
  CHECK(Json("\xFF").dump() == "\"\xEF\xBF\xBD\"");
  CHECK(Json::parse(R"("\u00e9\ud83d\ude00\u0000")").as_string() ==
        std::string("\xC3\xA9\xF0\x9F\x98\x80\0", 7));
}

TEST_CASE("json: reading") {
  const Json json = Json::parse(" {\"b\": [1, 2.5, \"x\", true, null], \"a\": {\"k\": -3}} ");
  CHECK(json.members()[0].key == "b");
  CHECK(json.at("a").at("k").as_int() == -3);
  CHECK(json.at("b").size() == 5);
  CHECK(json.at("b").elements()[1].as_real() == 2.5);
  CHECK(json.at("b").elements()[3].as_bool());
  CHECK(json.find("c") == nullptr);
  CHECK(Json::parse(json.dump_pretty()) == json);
}

TEST_CASE("json: a value of another kind is an error with both") {
  const Json json = Json::parse(R"({"a":"x","n":-1,"r":1.5,"u":18446744073709551615})");
  CHECK_THROWS_WITH(json.at("b"), "json: key 'b' is missing");
  CHECK_THROWS_WITH(json.at("a").as_int(), "json: expected a whole number, found a string \"x\"");
  CHECK_THROWS_WITH(json.at("n").as_uint(),
                    "json: expected a whole number from 0 on, found a whole number -1");
  CHECK_THROWS_WITH(json.at("r").as_int(),
                    "json: expected a whole number, found a real number 1.5");
  CHECK_THROWS_WITH(json.at("u").as_int(),
                    "json: expected a whole number below 2^63, found a whole number "
                    "18446744073709551615");
  CHECK_THROWS_WITH(json.as_string(), "json: expected a string, found an object");
  CHECK_THROWS_WITH(json.at("a").members(), "json: expected an object, found a string \"x\"");
  CHECK_THROWS_WITH(json.at("a").size(), "json: expected an object, found a string \"x\"");
  CHECK_THROWS_AS(Json(1).push(2), Error);
  CHECK_THROWS_AS(Json("x").set("a", 1), Error);
}

TEST_CASE("json: bad texts") {
  const char* texts[] = {"",           " ",       "{",     "{\"a\"}", "[1,]",
                         "{\"a\":1,}", "nul",     "01",    "1 2",     "\"\xFF\"",
                         "'a'",        "// c\n1", "1e999", "[1]]",    "\"\\x\"",
                         "\"a\nb\"",   "+1",      "NaN",   "{1:2}"};
  for (const char* text : texts) {
    CAPTURE(text);
    CHECK(error_of(text).find("json: ") == 0);
  }
  CHECK(error_of("{\"a\": 1,\n  b}").find("json: parse error at line 2, column 3") == 0);
  CHECK(error_of(R"({"a":1,"b":2,"a":3})") == "json: key 'a' is given twice");
  CHECK(error_of(std::string_view("1\0", 2)).find("json: ") == 0);
}

TEST_CASE("json: Python's Infinity, where it is asked for") {
  const auto read = [](std::string_view text) { return Json::parse(text, {.infinity = true}); };
  CHECK(read(R"({"a": [0.0, Infinity]})") ==
        Json::parse(R"({"a": [0.0, {"__float__": "Infinity"}]})"));
  CHECK(read("Infinity") == python_infinity());
  CHECK(read(R"({"Infinity": "a\"Infinity\\"})").dump() == R"({"Infinity":"a\"Infinity\\"})");
  CHECK(read(R"(["\\", Infinity])").elements()[1] == python_infinity());
  for (const char* text : {"NaN", "-Infinity", "[0.Infinity]", "[Infinity0]", "[Infinity",
                           "\"Infinity", "{Infinity: 1}", "infinity", "[1 Infinity]"}) {
    CAPTURE(text);
    CHECK_THROWS_AS(read(text), Error);
  }
  CHECK(error_of("[Infinity]").find("json: parse error at line 1, column 2") == 0);
  CHECK_THROWS_AS(Json::parse("[Infinity]", {.depth = 1, .infinity = true}), Error);
}

TEST_CASE("json: limits") {
  const std::string deep = std::string(128, '[') + std::string(128, ']');
  CHECK(Json::parse(deep).dump() == deep);
  CHECK(error_of("[" + deep + "]") == "json: nested deeper than 128 levels");
  CHECK(error_of(std::string(1'000'000, '[')) == "json: nested deeper than 128 levels");
  CHECK(error_of("[1]", {.bytes = 2}) == "json: 3 bytes, the limit is 2");
}

}  // namespace
}  // namespace braid
