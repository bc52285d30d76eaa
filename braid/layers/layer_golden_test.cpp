// Every layer_* file of the golden folders below, by the kind it names in its metadata.

#include <doctest/doctest.h>

#include <filesystem>
#include <set>

#include "braid/testing/golden.h"
#include "braid/testing/golden_layer.h"

namespace braid {

TEST_CASE("layers agree with every golden file") {
  // moe_golden_test.cpp runs the expert layers.
  const std::set<std::string> elsewhere = {
      "kimi_linear MoE (sigmoid router, bias used for selection only)",
      "qwen3_next sparse MoE block"};
  int seen = 0;
  std::vector<std::string> paths = testing::golden_files("recurrence");
  for (const std::string& path : testing::golden_files("attention")) paths.push_back(path);
  for (const std::string& path : paths) {
    const std::string name = std::filesystem::path(path).stem().string();
    if (name.rfind("layer_", 0) != 0) continue;
    ++seen;
    SUBCASE(name.c_str()) {
      const testing::GoldenLayer golden(path);
      const std::string& kind = golden.file().metadata("layer");
      const auto test = testing::golden_kinds().find(kind);
      // No return in here: doctest would not come back for the remaining files.
      if (test != testing::golden_kinds().end()) {
        INFO(path);
        test->second(golden);
      } else {
        CHECK_MESSAGE(elsewhere.count(kind) > 0, "nothing runs ", kind);
        MESSAGE(name, " is not run here: ", kind);
      }
    }
  }
  CHECK_MESSAGE(seen > 0, "no layer_* files in the golden folder");
}

}  // namespace braid
