#pragma once
// Documents out of whatever text a person has: a file, a folder of files (with its subfolders, in
// the order of their paths; names that begin with '.' are left out), each plain, .gz, .dz (dictzip)
// or .zst, and JSONL (.jsonl, .ndjson).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/function_ref.h"

namespace braid {

struct SourceFile {
  std::string path;
  uint64_t bytes = 0;
  int64_t modified_ns = 0;
};

// The files that `path` stands for. Throws Error(kBadInput) when there are none.
std::vector<SourceFile> list_sources(const std::string& path);

struct DocumentSink {
  FunctionRef<void(std::string_view part)> text;  // of the current document, in pieces of any size
  FunctionRef<void()> end_document;               // never called for an empty one
};

// Feeds all documents of one file: the file is one document; of JSONL, the "text" of each line is
// one. Throws Error(kBadInput) naming the file and what is wrong: compressed data that ends early
// or is damaged, a JSONL line that is no object with a "text" string (with its number), and, unless
// `allow_binary`, a file that is not text: it has a NUL byte or more than 5 % of its bytes are not
// UTF-8.
void read_documents(const std::string& path, bool allow_binary, const DocumentSink& sink);

}  // namespace braid
