#pragma once
// A tokenizer made of parts: added tokens, normalizers, pre-tokenizers, a vocabulary, templates
// around the ids and decoders.

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "braid/text/tokenizer/added_tokens.h"
#include "braid/text/tokenizer/decoder.h"
#include "braid/text/tokenizer/model.h"
#include "braid/text/tokenizer/normalizer.h"
#include "braid/text/tokenizer/postprocessor.h"
#include "braid/text/tokenizer/pretokenizer.h"
#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

struct PipelineParts {
  std::vector<AddedToken> added;
  std::vector<std::unique_ptr<Normalizer>> normalizers;
  std::vector<std::unique_ptr<PreTokenizer>> pretokenizers;
  std::unique_ptr<TokenModel> model;
  std::vector<IdTemplate> templates;
  std::vector<std::unique_ptr<DecodeRule>> decoder;
};

class PipelineTokenizer final : public Tokenizer {
 public:
  // Ids of added tokens must be free or belong to the same string in the vocabulary.
  explicit PipelineTokenizer(PipelineParts parts);
  ~PipelineTokenizer() override;

  std::vector<int32_t> encode(std::string_view text, const EncodeOptions& options) const override;
  int32_t vocab_size() const override { return vocab_size_; }
  std::optional<int32_t> token_to_id(std::string_view token) const override;
  std::optional<std::string> id_to_token(int32_t id) const override;
  bool is_special(int32_t id) const override;
  std::vector<int32_t> special_ids() const override;
  std::string describe() const override;
  std::unique_ptr<DecodeStream> new_decode_stream(bool lossy) const override;

 private:
  struct Scratch;
  std::unique_ptr<Scratch> take_scratch() const;
  void encode_plain(std::string_view text, bool at_start, bool allow_special, Scratch& scratch,
                    std::vector<int32_t>& ids) const;
  void encode_pieces(std::string_view text, bool at_start, Scratch& scratch,
                     std::vector<int32_t>& ids) const;

  PipelineParts parts_;
  AddedTokenFinder raw_added_, normalized_added_;
  Vocabulary added_;  // by id, for those that the model's vocabulary lacks
  std::vector<bool> special_;
  int32_t vocab_size_ = 0;
  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Scratch>> idle_;  // threads take one and give it back
};

}  // namespace braid
