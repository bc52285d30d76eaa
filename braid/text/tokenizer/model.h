#pragma once
// The vocabulary's own part of encoding: a piece of text that the pre-tokenizer cut out becomes
// ids.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "braid/text/tokenizer/piece_cache.h"
#include "braid/text/tokenizer/vocabulary.h"

namespace braid {

// What one thread needs to encode. Pieces seen before are remembered.
struct ModelScratch {
  struct Symbol {
    int32_t id, previous, next;  // a linked list by index, -1 at its ends; id -1: merged away
  };
  struct Candidate {
    int32_t rank, at, result;
  };
  struct Step {  // of the best way to cut a piece, by byte
    double score;
    int32_t begin, id;
  };
  PieceCache cache;
  std::vector<int32_t> ids;
  std::vector<Symbol> symbols;
  std::vector<Candidate> heap;
  std::vector<Step> steps;
  std::vector<std::string_view> views;
  std::string text;
};

class TokenModel {
 public:
  virtual ~TokenModel() = default;
  virtual void encode(std::string_view piece, ModelScratch& scratch,
                      std::vector<int32_t>& ids) const = 0;
  virtual const Vocabulary& vocabulary() const = 0;
  virtual std::string name() const = 0;
};

// Ids of "<0x00>" to "<0xFF>"; -1 where the vocabulary lacks one.
std::vector<int32_t> byte_token_ids(const Vocabulary& vocabulary);

}  // namespace braid
