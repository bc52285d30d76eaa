#include "braid/importers/generation_config.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

GenerationDefaults defaults_of(const char* config) {
  const testing::ScratchFolder folder("generation_config");
  write_file(join_path(folder.path(), "config.json"), config);
  return read_generation_defaults(folder.path());
}

}  // namespace

TEST_CASE("a start or padding token below zero is none, an end below zero an error") {
  const GenerationDefaults none =
      defaults_of(R"({"bos_token_id":-1,"pad_token_id":-1,"eos_token_id":2})");
  CHECK_FALSE(none.bos);
  CHECK_FALSE(none.pad);
  CHECK(none.eos == std::vector<int32_t>{2});
  CHECK(defaults_of(R"({"pad_token_id":0})").pad == 0);
  CHECK_THROWS_WITH_AS(defaults_of(R"({"eos_token_id":-1})"),
                       doctest::Contains("eos_token_id is -1"), Error);
}

}  // namespace braid
