#pragma once
// The two simplest vocabularies: whole words, and words cut greedily into the longest tokens.

#include "braid/text/tokenizer/model.h"

namespace braid {

class WordLevel final : public TokenModel {
 public:
  WordLevel(Vocabulary vocabulary, std::string unk_token);
  void encode(std::string_view piece, ModelScratch& scratch,
              std::vector<int32_t>& ids) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::string name() const override { return "WordLevel"; }

 private:
  Vocabulary vocabulary_;
  std::string unk_token_;
};

struct WordPieceOptions {
  std::string unk_token = "[UNK]";
  std::string continuing_subword_prefix = "##";
  int64_t max_input_chars_per_word = 100;  // longer words are unknown
};

class WordPiece final : public TokenModel {
 public:
  WordPiece(Vocabulary vocabulary, WordPieceOptions options);
  void encode(std::string_view piece, ModelScratch& scratch,
              std::vector<int32_t>& ids) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::string name() const override { return "WordPiece"; }

 private:
  Vocabulary vocabulary_;
  WordPieceOptions options_;
};

}  // namespace braid
