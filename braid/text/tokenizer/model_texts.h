#pragma once
// The texts that stand beside a model's weights: tokenizer, chat template, how answers end.

#include <span>
#include <string>
#include <vector>

namespace braid {

std::span<const char* const> model_text_names();

struct NamedText {
  std::string name, text;
};
using NamedTexts = std::vector<NamedText>;

NamedTexts read_model_texts(const std::string& folder);
// Of a folder whose model reads bytes: those that bring no vocabulary.
NamedTexts read_texts_of_bytes(const std::string& folder);

}  // namespace braid
