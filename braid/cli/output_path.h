#pragma once
// What a command is to write is refused where it cannot be written, before the work and not after.

#include <string>

namespace braid {

// A file that `flag` names; an empty path is none. Throws Error(kBadInput) with the reason.
void require_output_file(const char* flag, const std::string& path);
// A folder that the command fills and may have to make.
void require_output_folder(const char* flag, const std::string& path);

}  // namespace braid
