#include "braid/importers/gguf_load.h"

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/importers/gguf_model.h"
#include "braid/importers/gguf_source.h"

namespace braid {

bool is_gguf_file(const std::string& path) {
  const std::optional<uint64_t> bytes = file_size(path);
  return bytes && *bytes >= 4 && MappedFile::open(path)->text().substr(0, 4) == "GGUF";
}

ReadConfig read_gguf_config(const GgufFile& file) {
  return read_config(hf_config_of(gguf_model_of(file)), file.path());
}

HfCheckpoint open_gguf_checkpoint(const std::string& path) {
  return open_gguf_checkpoint(std::make_shared<const GgufFile>(GgufFile::open(path)));
}

HfCheckpoint open_gguf_checkpoint(const std::shared_ptr<const GgufFile>& file) {
  HfCheckpoint c;
  c.config = read_gguf_config(*file);
  c.notes = c.config.model.notes;
  c.source = open_gguf_source(file, gguf_model_of(*file));
  fit_tensors(c);
  return c;
}

GenerationDefaults gguf_generation_defaults(const GgufFile& file) {
  GenerationDefaults out;
  const auto id = [&](const char* key) -> std::optional<int32_t> {
    const std::optional<uint64_t> n = file.uint(key);
    if (!n || *n > (uint64_t{1} << 30)) return std::nullopt;
    return static_cast<int32_t>(*n);
  };
  out.bos = id("tokenizer.ggml.bos_token_id");
  for (const char* key : {"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"}) {
    if (const auto n = id(key)) out.eos.push_back(*n);
  }
  return out;
}

}  // namespace braid
