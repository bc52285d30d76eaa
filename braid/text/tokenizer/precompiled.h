#pragma once
// SentencePiece's character map: base64 of a double-array trie from strings to their replacements.

#include <memory>
#include <string_view>

#include "braid/text/tokenizer/normalizer.h"

namespace braid {

std::unique_ptr<Normalizer> parse_precompiled(std::string_view base64);

}  // namespace braid
