#pragma once
// A checkpoint in Hugging Face's names, written as a GGUF file that llama.cpp reads.

#include <string>
#include <vector>

#include "braid/base/json.h"
#include "braid/core/context.h"
#include "braid/formats/byte_source.h"
#include "braid/formats/gguf.h"
#include "braid/formats/quant_blocks.h"
#include "braid/importers/load.h"
#include "braid/importers/tensor_source.h"

namespace braid {

struct GgufExport {
  const TensorSource* source = nullptr;
  Json config;         // config.json
  std::string folder;  // tokenizer files are looked for here; "" = a vocabulary of bytes
  std::string name;    // general.name
  GgmlType type = GgmlType::kF32;        // of matrices: F32, F16, BF16, Q8_0 or Q4_0
  ByteProgress progress = {};            // while weights are written
  const GgufFile* vocabulary = nullptr;  // its tokenizer keys are taken instead of the folder's
  GenerationDefaults generation = {};
};

struct GgufExported {
  uint64_t bytes = 0;
  std::vector<std::string> notes;  // what was written otherwise than asked
};

// Vectors, routers, convolutions and decays stay F32; so does a matrix whose rows are no whole
// number of blocks (with a note). Matrices in MXFP4 stay so where anything but F32 is asked. Throws
// Error(kBadInput) when the model type has no GGUF form, a tensor is missing or of another shape,
// or the tokenizer has no GGUF form.
GgufExported export_gguf(const Context& ctx, const GgufExport& what, const std::string& path);

// The same of a Hugging Face folder or of another GGUF file (whose vocabulary is kept as it is).
GgufExported convert_to_gguf(const Context& ctx, const std::string& model, GgmlType type,
                             const std::string& path, const ByteProgress& progress = {});

}  // namespace braid
