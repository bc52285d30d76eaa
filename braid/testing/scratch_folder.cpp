#include "braid/testing/scratch_folder.h"

#include <unistd.h>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/file_faults.h"
#include "braid/base/format.h"

namespace braid::testing {
namespace {

std::string base_folder() {
  constexpr const char* kInMemory = "/dev/shm";
  return ::access(kInMemory, W_OK) == 0 ? kInMemory : "/tmp";
}

}  // namespace

ScratchFolder::ScratchFolder(const std::string& name)
    : path_(format("{}/braid-{}-{}", base_folder(), name, ::getpid())) {
  remove_folder(path_);
  make_folders(path_);
}

ScratchFolder::~ScratchFolder() {
  FileFaults::disarm();
  try {
    remove_folder(path_);
  } catch (const Error&) {
    // A destructor has nobody to tell; the next run under this name starts by removing it.
  }
}

std::string ScratchFolder::operator/(const std::string& name) const {
  return join_path(path_, name);
}

}  // namespace braid::testing
