#include "braid/text/tokenizer/byte_bpe.h"

namespace braid {

PipelineParts byte_bpe_parts(Vocabulary vocabulary, const std::vector<BpeMerge>& merges,
                             const std::vector<std::string_view>& regexes, RegexSyntax syntax,
                             bool ignore_merges) {
  PipelineParts parts;
  for (const std::string_view regex : regexes) {
    parts.pretokenizers.push_back(split_isolated(Regex(regex, syntax)));
  }
  BpeOptions o;
  o.kind = "byte-level BPE";
  o.raw_bytes = true;
  o.ignore_merges = ignore_merges;
  parts.model = std::make_unique<Bpe>(std::move(vocabulary), merges, std::move(o));
  parts.decoder.push_back(byte_level_decoder());
  return parts;
}

}  // namespace braid
