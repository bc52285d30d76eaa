#include "braid/cli/output_path.h"

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"

namespace braid {
namespace {

void refuse_where(const std::string& why, const char* flag, const std::string& path) {
  if (why.empty()) return;
  throw Error(ErrorKind::kBadInput, format("cannot write {} ({}): {}", path, flag, why));
}

}  // namespace

void require_output_file(const char* flag, const std::string& path) {
  if (!path.empty()) refuse_where(why_no_file(path), flag, path);
}

void require_output_folder(const char* flag, const std::string& path) {
  if (!path.empty()) refuse_where(why_no_files_in(path), flag, path);
}

}  // namespace braid
