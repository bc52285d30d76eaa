#pragma once
// Text to token ids and back. One interface for every vocabulary: bytes, tokenizer.json, tiktoken
// files and what a GGUF file carries. A tokenizer may be used by several threads at once.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace braid {

struct EncodeOptions {
  // What the tokenizer puts around a text: a start token, for many models.
  bool add_special_tokens = true;
  // Special tokens that are spelled out in the text become their ids. Off for text that others
  // wrote: there "<|im_end|>" is ten characters.
  bool allow_special = true;
};

// One decoder at work: tokens as the vocabulary spells them go in, text comes out once nothing that
// follows can change it.
class DecodeStream {
 public:
  virtual ~DecodeStream() = default;
  virtual void push(std::string_view token, std::string& out) = 0;
  virtual void finish(std::string& out) = 0;
};

class Tokenizer {
 public:
  // Ids that tokenizer_config.json or the GGUF file call by a name.
  struct NamedIds {
    std::optional<int32_t> bos, eos, unk, pad;
  };

  virtual ~Tokenizer() = default;

  // Bytes that are no UTF-8 are kept: vocabularies of bytes encode them as they are.
  virtual std::vector<int32_t> encode(std::string_view text,
                                      const EncodeOptions& options = {}) const = 0;

  // UTF-8 always: what is no UTF-8 becomes U+FFFD. Ids without a token are left out.
  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const;
  // The same before that replacement: encode's inverse for vocabularies of bytes.
  std::string decode_bytes(std::span<const int32_t> ids, bool skip_special = false) const;

  // One above the largest id. A model may have more rows than that.
  virtual int32_t vocab_size() const = 0;
  virtual std::optional<int32_t> token_to_id(std::string_view token) const = 0;
  // As the vocabulary spells it ("Ġthe", "<0x0A>"); nullopt when the id has no token.
  virtual std::optional<std::string> id_to_token(int32_t id) const = 0;
  virtual bool is_special(int32_t id) const = 0;
  virtual std::vector<int32_t> special_ids() const = 0;  // ascending
  // The ids are the bytes of the text: nothing to convert.
  virtual bool is_bytes() const { return false; }
  // "byte-level BPE, 151669 tokens"
  virtual std::string describe() const = 0;

  const NamedIds& named() const { return named_; }
  void set_named(const NamedIds& named) { named_ = named; }
  // The named token as text; empty when there is none. Chat templates ask for these.
  std::string bos_token() const { return spelled(named_.bos); }
  std::string eos_token() const { return spelled(named_.eos); }

  // lossy: what is no UTF-8 becomes U+FFFD.
  virtual std::unique_ptr<DecodeStream> new_decode_stream(bool lossy = true) const = 0;

 private:
  std::string spelled(std::optional<int32_t> id) const;
  NamedIds named_;
};

// Decodes ids that arrive one by one. What push and finish return, joined, is decode() of all ids;
// no code point is split and nothing returned changes later.
class StreamDecoder {
 public:
  // The tokenizer must outlive it.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true, bool lossy = true);
  std::string push(int32_t id);
  std::string finish();  // what was still undecided

 private:
  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::unique_ptr<DecodeStream> stream_;
};

// 256 tokens, the bytes themselves.
std::shared_ptr<const Tokenizer> byte_tokenizer();

// The tokenizer of a model's folder: tokenizer.json, else tiktoken.model, with what
// tokenizer_config.json says of them. Null when the folder has neither: the caller decides whether
// bytes are meant. Throws Error(kBadInput) with the file's name.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& folder);

// The same from the text of a tokenizer.json (and of a tokenizer_config.json, or "").
std::shared_ptr<const Tokenizer> parse_tokenizer_json(std::string_view json,
                                                      std::string_view config = {});

// The vocabulary in a GGUF file's metadata (tokenizer.ggml.*), which the caller has read.
struct GgufVocabulary {
  std::string model;                // "gpt2": byte-level BPE; "llama": merges by score
  std::string pre;                  // names the regex of "gpt2"; "" is "default"
  std::vector<std::string> tokens;  // by id
  std::vector<std::string> merges;  // "a b"; gpt2
  std::vector<float> scores;        // by id; llama
  std::vector<int32_t> types;       // by id: 1 normal 2 unknown 3 control 4 user 5 unused 6 byte
  std::optional<int32_t> bos, eos, unk, pad;
  std::optional<bool> add_bos, add_eos, add_space_prefix;
};
std::shared_ptr<const Tokenizer> tokenizer_from_gguf(const GgufVocabulary& vocabulary);

// tokenizer.json and tokenizer_config.json that Hugging Face's library encodes with as
// tokenizer_from_gguf's tokenizer does. Rows "[PADn]" without a use are left out.
struct TokenizerFiles {
  std::string tokenizer, config;
};
struct TokenizerExtras {
  std::vector<std::pair<std::string, std::string>> chat_templates;  // name ("default") and text
  int64_t max_length = 0;                                           // tokens, 0 = unknown
};
TokenizerFiles tokenizer_files_of_gguf(const GgufVocabulary& vocabulary,
                                       const TokenizerExtras& extras);
// The second alone, for a tokenizer.json that comes from elsewhere and brings its added tokens.
std::string tokenizer_config_of_gguf(const GgufVocabulary& vocabulary,
                                     const TokenizerExtras& extras);

}  // namespace braid
