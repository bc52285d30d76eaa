#include "braid/testing/golden.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

namespace braid::testing {

namespace {

// A kind of golden that $BRAID_GOLDEN does not have is the repository's.
std::filesystem::path path_of(const std::string& folder) {
  const char* own = std::getenv("BRAID_DEFAULT_GOLDEN");
  const std::filesystem::path ours = std::filesystem::path(own ? own : "tests/golden") / folder;
  const char* root = std::getenv("BRAID_GOLDEN");
  if (root == nullptr) return ours;
  const std::filesystem::path given = std::filesystem::path(root) / folder;
  return std::filesystem::exists(given) ? given : ours;
}

}  // namespace

std::string golden_path(const std::string& name) {
  const char* own = std::getenv("BRAID_DEFAULT_GOLDEN");
  const std::filesystem::path ours = std::filesystem::path(own ? own : "tests/golden") / name;
  return (std::filesystem::exists(ours) ? ours : path_of(name)).string();
}

std::vector<std::string> golden_files(const std::string& folder) {
  std::vector<std::string> paths;
  const std::filesystem::path at = path_of(folder);
  if (!std::filesystem::is_directory(at)) return paths;
  for (const auto& entry : std::filesystem::directory_iterator(at)) {
    if (entry.path().extension() == ".safetensors") paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

std::vector<std::string> golden_folders(const std::string& folder, const std::string& name) {
  std::vector<std::string> paths;
  const std::filesystem::path at = path_of(folder);
  if (!std::filesystem::is_directory(at)) return paths;
  for (const auto& entry : std::filesystem::directory_iterator(at)) {
    if (std::filesystem::exists(entry.path() / name)) paths.push_back(entry.path().string());
  }
  std::sort(paths.begin(), paths.end());
  return paths;
}

}  // namespace braid::testing
