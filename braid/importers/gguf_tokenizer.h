#pragma once
// Vocabularies in GGUF metadata (tokenizer.ggml.*), both ways.

#include <optional>
#include <string>
#include <vector>

#include "braid/formats/gguf.h"
#include "braid/importers/gguf_model.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

// Keys that hold the whole tokenizer.json, which goes before all others, and chat templates.
inline constexpr const char* kTokenizerJson = "tokenizer.huggingface.json";
inline constexpr const char* kTemplateKey = "tokenizer.chat_template";
inline constexpr const char* kTemplateNames = "tokenizer.chat_templates";

// Null when the file carries none.
std::shared_ptr<const Tokenizer> gguf_tokenizer(const GgufFile& file);

// The same as the files of a Hugging Face folder; nullopt too for a vocabulary of bytes, which
// needs no file.
std::optional<TokenizerFiles> gguf_tokenizer_files(const GgufFile& file);
void write_tokenizer_files(const TokenizerFiles& files, const std::string& folder);

// From tokenizer.json and tokenizer_config.json of `folder`, padded to the model's rows, and the
// whole tokenizer.json; a vocabulary of bytes when there are none and the model has 256. Throws
// Error(kBadInput) for a tokenizer that has no GGUF form.
void put_tokenizer(GgufWriter& writer, const std::string& folder, const GgufModel& model,
                   std::vector<std::string>& notes);

}  // namespace braid
