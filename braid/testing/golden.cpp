#include "braid/testing/golden.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace braid::testing {

std::vector<std::string> golden_files(const std::string& folder) {
  const char* root = std::getenv("BRAID_GOLDEN");
  if (root == nullptr) root = std::getenv("BRAID_DEFAULT_GOLDEN");
  if (root == nullptr) root = "tests/golden";
  std::vector<std::string> paths;
  const std::filesystem::path at = std::filesystem::path(root) / folder;
  if (!std::filesystem::is_directory(at)) return paths;
  for (const auto& entry : std::filesystem::directory_iterator(at)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace braid::testing
