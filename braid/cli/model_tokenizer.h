#pragma once

#include <string>

#include "braid/train/data_tokenizer.h"

namespace braid {

// What a run that begins or goes on with a model keeps of its texts: of a Hugging Face folder, a
// run, a checkpoint or a GGUF file. No tokenizer where the model reads bytes.
DataTokenizer tokenizer_of_model(const std::string& model);

}  // namespace braid
