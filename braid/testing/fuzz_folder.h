#pragma once
// A folder for the files that a fuzz target writes, removed when the target ends. In memory where
// possible: on a disk, fsync would be all that is tested.

#include <cstdlib>
#include <string>
#include <string_view>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"

namespace braid::testing {

class FuzzFolder {
 public:
  explicit FuzzFolder(std::string_view name) {
    for (const char* below : {"/dev/shm", "/tmp"}) {
      path_ = format("{}/braid-{}-fuzz-XXXXXX", below, name);
      if (::mkdtemp(path_.data()) != nullptr) return;
    }
    throw Error(ErrorKind::kBadInput, "no folder can be made in /dev/shm or /tmp");
  }
  ~FuzzFolder() { remove_folder(path_); }
  FuzzFolder(const FuzzFolder&) = delete;
  FuzzFolder& operator=(const FuzzFolder&) = delete;
  std::string operator/(std::string_view name) const { return join_path(path_, name); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace braid::testing
