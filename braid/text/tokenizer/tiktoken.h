#pragma once
// tiktoken.model: lines of "base64-of-the-bytes rank", as Kimi's folders have it.

#include <memory>
#include <string_view>

#include "braid/text/tokenizer/tokenizer.h"

namespace braid {

// `config`: the text of tokenizer_config.json (special tokens, classes), or "".
std::shared_ptr<const Tokenizer> parse_tiktoken(std::string_view model, std::string_view config);

}  // namespace braid
