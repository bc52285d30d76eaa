#include "braid/importers/gguf_load.h"

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/base/format.h"
#include "braid/importers/generation_config.h"
#include "braid/importers/gguf_generation.h"
#include "braid/importers/gguf_model.h"
#include "braid/importers/gguf_source.h"

namespace braid {

bool is_gguf_file(const std::string& path) {
  const std::optional<uint64_t> bytes = file_size(path);
  return bytes && *bytes >= 4 && MappedFile::open(path)->text().substr(0, 4) == "GGUF";
}

Json gguf_hf_config(const GgufFile& file) {
  Json config = hf_config_of(gguf_model_of(file));
  put_token_ids(gguf_generation_defaults(file), config);
  return config;
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

}  // namespace braid
