// Any bytes are either a template that renders fixed messages, within its limits, or throw
// braid::Error(kBadInput).

#include <cstddef>
#include <cstdint>

#include "braid/base/error.h"
#include "braid/text/jinja/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const braid::Json messages = braid::Json::parse(
      R"([{"role":"system","content":" Be brief. "},{"role":"user","content":"Grüße"},
          {"role":"assistant","content":null,"tool_calls":[{"function":
           {"name":"f","arguments":{"x":1,"y":[1.5,true]}}}]},
          {"role":"tool","content":"<think>a</think>\n\nb"}])");
  static const braid::Json tools = braid::Json::parse(
      R"([{"type":"function","function":{"name":"f","parameters":{"properties":{"x":{}}}}}])");
  braid::ChatOptions options;
  options.limits = {.work = 200'000, .memory = 8 << 20, .output = 1 << 20, .depth = 600};
  options.extras = {{"bos_token", "<s>"}, {"enable_thinking", false}};
  options.clock = [] { return std::tm{}; };
  try {
    const auto t = braid::ChatTemplate::parse({reinterpret_cast<const char*>(data), size});
    BRAID_CHECK(t.render(messages, tools, options).size() <= options.limits.output);
  } catch (const braid::Error& e) {
    BRAID_CHECK(e.kind() == braid::ErrorKind::kBadInput);
  }
  return 0;
}
