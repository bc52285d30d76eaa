#pragma once
// Unigram: of all ways to cut a piece into tokens the one with the highest sum of scores.

#include "braid/text/tokenizer/model.h"

namespace braid {

struct UnigramOptions {
  int32_t unk = -1;  // -1: a character without a token is an error
  bool byte_fallback = false;
  // Ids that text never becomes: special tokens, which are found before or not at all.
  std::vector<int32_t> apart;
};

class Unigram final : public TokenModel {
 public:
  Unigram(Vocabulary vocabulary, std::vector<double> scores, UnigramOptions options);
  void encode(std::string_view piece, ModelScratch& scratch,
              std::vector<int32_t>& ids) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::string name() const override { return "Unigram"; }

 private:
  // The node below `node` for a byte; -1 when there is none.
  int32_t child(int32_t node, uint8_t byte) const;
  int32_t add_child(int32_t node, uint8_t byte);
  void build_trie();
  void cut(std::string_view piece, ModelScratch& scratch) const;
  bool is_apart(int32_t id) const;
  void emit(std::string_view token, std::vector<int32_t>& ids) const;

  Vocabulary vocabulary_;
  std::vector<double> scores_;  // by id
  UnigramOptions options_;
  double unk_score_ = 0;
  std::vector<int32_t> byte_tokens_;
  std::vector<int32_t> ends_;  // by trie node: the token that ends there, -1
  struct Edge {
    uint64_t key = ~uint64_t{0};  // node << 8 | byte
    int32_t to = -1;
  };
  std::vector<Edge> edges_;  // open addressing
};

}  // namespace braid
