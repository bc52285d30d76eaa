#pragma once
// Documents as token ids: made once, kept in a memory-mapped file beside the text.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/file.h"
#include "braid/text/tokenizer/model_texts.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

struct DataTokenizer {
  std::shared_ptr<const Tokenizer> tokenizer;  // null: ids are bytes
  std::string digest;                          // of its files; other files are other tokens
  TokenizerFiles files;                        // as they were read
  NamedTexts beside;  // what else belongs to the model: its chat template, how answers end
  bool present() const { return tokenizer != nullptr; }
};
// `where` the files are from is for errors.
DataTokenizer data_tokenizer(TokenizerFiles files, const std::string& where);
// Of tokenizer.json, or of a folder that holds one, with the model's texts beside it.
DataTokenizer load_data_tokenizer(const std::string& path);

struct TokenCache {
  std::shared_ptr<const MappedFile> file;  // int32 ids
  std::vector<int64_t> document_ends;      // ascending, in ids
  int64_t held_out_begin = 0;              // in ids
  std::vector<int32_t> bytes_of;  // of text, by id; what only stands around a text has none
  int64_t told_bytes = 0;         // of all ids together
  std::span<const int32_t> ids() const {
    return {reinterpret_cast<const int32_t*>(file->data()), file->size() / sizeof(int32_t)};
  }
};

// Text that each token stands for, in bytes; special tokens stand for none.
std::vector<int32_t> token_bytes(const Tokenizer& tokenizer);

// The tokens of `text` as files STEM.tokens and STEM.tokens.index.safetensors, or those of an
// earlier call. Each document is encoded by itself, with what the tokenizer puts around a text;
// special tokens that are spelled in it are text. One that goes on past `held_out_begin` is cut
// there. `text_digest` is of the text and the ends of its documents: ids of another one are made
// anew.
TokenCache open_token_cache(const DataTokenizer& tokenizer, std::string_view text,
                            const std::string& text_digest, std::span<const int64_t> document_ends,
                            int64_t held_out_begin, const std::string& stem);

}  // namespace braid
