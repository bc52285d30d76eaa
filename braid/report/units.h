#pragma once

#include <cstdint>
#include <string>

namespace braid {

// Bytes in powers of 1024, three digits: "512 B", "1.21 MiB", "48.0 GiB".
std::string bytes_text(double bytes);
// A count with k, M, G: "950", "12.3k", "3.41M".
std::string count_text(double count);
// A context length as people say it: 1024 -> "1k", 131072 -> "128k", 1000 -> "1000".
std::string context_text(int64_t tokens);
// "3 min 0 s", "12.5 s", "2 h 5 min".
std::string duration_text(double seconds);

}  // namespace braid
