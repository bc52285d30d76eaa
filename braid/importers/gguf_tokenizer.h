#pragma once
// Vocabularies in GGUF metadata (tokenizer.ggml.*), both ways.

#include <string>
#include <vector>

#include "braid/formats/gguf.h"
#include "braid/importers/gguf_model.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

// Null when the file carries none.
std::shared_ptr<const Tokenizer> gguf_tokenizer(const GgufFile& file);

// From tokenizer.json and tokenizer_config.json of `folder`, padded to the model's rows; a
// vocabulary of bytes when there are none and the model has 256. Throws Error(kBadInput) for a
// tokenizer that has no GGUF form.
void put_tokenizer(GgufWriter& writer, const std::string& folder, const GgufModel& model,
                   std::vector<std::string>& notes);

}  // namespace braid
