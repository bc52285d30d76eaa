#pragma once
// What a vocabulary from GGUF metadata means, for those who build a tokenizer of it.

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/json.h"
#include "braid/text/tokenizer/added_tokens.h"
#include "braid/text/tokenizer/bpe.h"
#include "braid/text/tokenizer/tokenizer.h"
#include "braid/text/tokenizer/vocabulary.h"

namespace braid {

enum GgufTokenType : int32_t { kNormal = 1, kUnknown, kControl, kUser, kUnused, kByte };

// What tokenizer.ggml.pre stands for besides its regexes.
struct GgufRules {
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
  bool nfc = false;  // the tokenizer.json of all that have the name normalise, llama.cpp does not
};
// How it cuts text: one regex after another.
struct GgufCuts {
  std::vector<std::string_view> names;
  std::vector<std::string_view> regexes;
  GgufRules rules = {};
};

// Throws Error(kBadInput) for arrays of other lengths, tokens that are no UTF-8 and ids outside.
void check_gguf_vocabulary(const GgufVocabulary& v);
const GgufCuts& gguf_cuts(const GgufVocabulary& v);
// The name of what cuts by these regexes, with the same rule for merges where there is one; "" when
// none does.
std::string_view gguf_cuts_name(std::span<const std::string> regexes, bool ignore_merges);
int32_t gguf_token_type(const GgufVocabulary& v, size_t id);
Vocabulary gguf_tokens(const GgufVocabulary& v);
std::vector<AddedToken> gguf_added_tokens(const GgufVocabulary& v);
// Of "llama", every way to cut a token in two, with the rank of its score.
std::vector<BpeMerge> gguf_merges(const GgufVocabulary& v, const Vocabulary& vocabulary);
bool gguf_space_prefix(const GgufVocabulary& v);
bool gguf_adds_bos(const GgufVocabulary& v);
bool gguf_adds_eos(const GgufVocabulary& v);

struct NamedToken {
  std::string text;
  int32_t id = 0;
};
// A tokenizer.json's post_processor that puts them around a text; null for none.
Json around_text(const std::optional<NamedToken>& bos, const std::optional<NamedToken>& eos);

}  // namespace braid
