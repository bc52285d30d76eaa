// What Hugging Face's own tokenizers make of hard texts (tests/golden/tokenizers/README.md).

#include <doctest/doctest.h>

#include "braid/base/file.h"
#include "braid/base/json.h"
#include "braid/testing/golden.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {
namespace {

std::vector<int32_t> ids_of(const Json& json) {
  std::vector<int32_t> ids;
  for (const Json& id : json.elements()) ids.push_back(static_cast<int32_t>(id.as_int()));
  return ids;
}

std::string streamed(const Tokenizer& t, const std::vector<int32_t>& ids, bool skip) {
  StreamDecoder stream(t, skip);
  std::string out;
  for (const int32_t id : ids) out += stream.push(id);
  return out + stream.finish();
}

void check_case(const Tokenizer& t, const Json& c) {
  const std::string& text = c.at("text").as_string();
  CAPTURE(Json(text).dump());
  const std::vector<int32_t> ids = ids_of(c.at("ids"));
  const std::vector<int32_t> full =
      c.find("with_special") == nullptr ? ids : ids_of(c.at("with_special"));
  CHECK(t.encode(text, {.add_special_tokens = false}) == ids);
  CHECK(t.encode(text) == full);
  const std::string& decoded = c.at("decoded").as_string();
  const std::string skipped = c.find("skipped") == nullptr ? decoded : c.at("skipped").as_string();
  CHECK(t.decode(full) == decoded);
  CHECK(t.decode(full, true) == skipped);
  CHECK(streamed(t, full, true) == skipped);
}

TEST_CASE("encoding and decoding agree with the reference") {
  const std::vector<std::string> folders = testing::golden_folders("tokenizers", "cases.json");
  REQUIRE(!folders.empty());
  for (const std::string& folder : folders) {
    CAPTURE(folder);
    const std::shared_ptr<const Tokenizer> t = load_tokenizer(folder);
    REQUIRE(t != nullptr);
    const Json golden = Json::parse(read_file(join_path(folder, "cases.json")));
    REQUIRE(golden.at("cases").size() > 0);
    for (const Json& c : golden.at("cases").elements()) check_case(*t, c);
    for (const Json& d : golden.at("decodes").elements()) {
      const std::vector<int32_t> ids = ids_of(d.at("ids"));
      CAPTURE(d.at("ids").dump());
      CHECK(t->decode(ids, d.at("skip").as_bool()) == d.at("text").as_string());
    }
  }
}

}  // namespace
}  // namespace braid
