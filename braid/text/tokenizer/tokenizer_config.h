#pragma once
// tokenizer_config.json: which tokens are bos, eos, unk and pad, and for some classes whether bos
// and eos are put around a text.

#include <memory>
#include <string_view>
#include <vector>

#include "braid/text/tokenizer/pipeline.h"

namespace braid {

// Whether the class that the config names puts bos and eos around a text as its flags say, whatever
// the post_processor of the file.
bool class_follows_flags(const Json& config);

std::shared_ptr<const Tokenizer> finish_with_config(PipelineParts parts, std::string_view config);

// "added_tokens_decoder": {"163584": {"content": "[BOS]", "special": true}, ...}
std::vector<AddedToken> config_added_tokens(std::string_view config);

}  // namespace braid
