#pragma once

#include <string>

namespace braid::testing {

// An empty folder of this process that is removed at the end, in memory where the machine has such
// a file system: tests that break hundreds of writes should not wait for a disk.
class ScratchFolder {
 public:
  explicit ScratchFolder(const std::string& name);
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const;

 private:
  std::string path_;
};

}  // namespace braid::testing
