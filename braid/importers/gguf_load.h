#pragma once
// A model from a .gguf file: seen as the Hugging Face checkpoint it was made from.

#include <string>

#include "braid/formats/gguf.h"
#include "braid/importers/load.h"

namespace braid {

bool is_gguf_file(const std::string& path);  // a regular file that begins with "GGUF"

// The checkpoint, its tensors fitted; throws Error(kBadInput) as open_hf_checkpoint does.
HfCheckpoint open_gguf_checkpoint(const std::string& path);
HfCheckpoint open_gguf_checkpoint(const std::shared_ptr<const GgufFile>& file);
// Settings from the file's keys alone.
ReadConfig read_gguf_config(const GgufFile& file);
// The config.json of the checkpoint the file was made from, as far as its keys tell.
Json gguf_hf_config(const GgufFile& file);

}  // namespace braid
