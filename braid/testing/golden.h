#pragma once
// The folder of golden files: $BRAID_GOLDEN, else $BRAID_DEFAULT_GOLDEN (set by ctest), also for
// what the first does not have.

#include <string>
#include <vector>

namespace braid::testing {

// Paths of the *.safetensors files of $BRAID_GOLDEN/`folder`, sorted; empty when there is no such
// folder.
std::vector<std::string> golden_files(const std::string& folder);

// The path of $BRAID_GOLDEN/`name`, whether it exists or not. configs/ is the repository's own.
std::string golden_path(const std::string& name);

// Paths of the folders of $BRAID_GOLDEN/`folder` that hold a file `name`, sorted.
std::vector<std::string> golden_folders(const std::string& folder, const std::string& name);

}  // namespace braid::testing
