#pragma once
// Byte-pair encoding: the adjacent pair with the lowest rank is merged, the leftmost first, until
// no pair has a rank.

#include <array>
#include <optional>
#include <unordered_set>

#include "braid/text/tokenizer/model.h"

namespace braid {

struct BpeMerge {
  int32_t left, right, result, rank;
};

struct BpeOptions {
  std::string kind = "BPE";  // for messages
  std::optional<std::string> unk_token;
  std::string continuing_subword_prefix, end_of_word_suffix;
  bool fuse_unk = false;
  bool byte_fallback = false;
  bool ignore_merges = false;  // a piece that is a token as a whole is that token
  // Pieces are bytes, and the vocabulary spells them as byte_map.h says.
  bool raw_bytes = false;
};

class Bpe final : public TokenModel {
 public:
  // Of merges of the same pair the last counts.
  Bpe(Vocabulary vocabulary, const std::vector<BpeMerge>& merges, BpeOptions options);
  void encode(std::string_view piece, ModelScratch& scratch,
              std::vector<int32_t>& ids) const override;
  const Vocabulary& vocabulary() const override { return vocabulary_; }
  std::string name() const override { return options_.kind; }

 private:
  struct Pair {
    uint64_t key = kNoPair;
    int32_t rank = 0, result = 0;
  };
  static constexpr uint64_t kNoPair = ~uint64_t{0};
  static uint64_t key_of(int32_t left, int32_t right) {
    return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
  }
  const Pair* find_pair(int32_t left, int32_t right) const;
  void insert_pair(const BpeMerge& merge);
  void find_cuts(const std::vector<BpeMerge>& merges);
  bool joins(uint32_t before, uint32_t after) const;

  void encode_cut(std::string_view piece, ModelScratch& scratch, std::vector<int32_t>& ids) const;
  void encode_cached(std::string_view segment, ModelScratch& scratch,
                     std::vector<int32_t>& ids) const;
  void encode_segment(std::string_view segment, ModelScratch& scratch) const;
  void first_symbols(std::string_view segment, ModelScratch& scratch) const;
  void merge_short(std::vector<int32_t>& ids) const;
  void merge_long(ModelScratch& scratch) const;

  Vocabulary vocabulary_;
  BpeOptions options_;
  int32_t unk_ = -1;
  std::vector<int32_t> byte_tokens_;     // byte_fallback: of "<0x00>" and so on
  std::array<int32_t, 256> characters_;  // id of a byte's (raw_bytes) or ASCII character, -1
  std::vector<Pair> pairs_;              // open addressing
  // Where no merge can reach across two characters, a piece falls apart into segments that can be
  // remembered: a whole text is one piece for some vocabularies.
  bool cuts_ = false;
  std::array<bool, 128 * 128> ascii_joins_{};
  std::unordered_set<uint64_t> other_joins_;
};

// Merges for a vocabulary that has ranks of tokens instead of merges: every way to cut a token in
// two tokens, with the token's rank. `ranks` by id; -1 for tokens that never result from a merge.
std::vector<BpeMerge> merges_of_ranks(const Vocabulary& vocabulary,
                                      const std::vector<int32_t>& ranks);

}  // namespace braid
