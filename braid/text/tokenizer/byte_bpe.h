#pragma once
// A byte-level BPE from its parts, for vocabularies that do not come as a tokenizer.json.

#include <memory>
#include <string_view>
#include <vector>

#include "braid/text/tokenizer/bpe.h"
#include "braid/text/tokenizer/pipeline.h"

namespace braid {

// The decoder, the splits by the regexes one after the other, and the vocabulary, whose tokens are
// spelled as in byte_map.h.
PipelineParts byte_bpe_parts(Vocabulary vocabulary, const std::vector<BpeMerge>& merges,
                             const std::vector<std::string_view>& regexes, RegexSyntax syntax,
                             bool ignore_merges);

}  // namespace braid
