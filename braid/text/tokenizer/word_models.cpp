#include "braid/text/tokenizer/word_models.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/utf8.h"

namespace braid {
namespace {

int32_t unknown_id(const Vocabulary& vocabulary, std::string_view unk_token,
                   std::string_view piece) {
  const int32_t id = vocabulary.find(unk_token);
  if (id >= 0) return id;
  throw Error(ErrorKind::kBadInput, format("'{}' is not in the vocabulary, nor is unk_token '{}'",
                                           printable(piece), printable(unk_token)));
}

}  // namespace

WordLevel::WordLevel(Vocabulary vocabulary, std::string unk_token)
    : vocabulary_(std::move(vocabulary)), unk_token_(std::move(unk_token)) {}

void WordLevel::encode(std::string_view piece, ModelScratch&, std::vector<int32_t>& ids) const {
  const int32_t id = vocabulary_.find(piece);
  ids.push_back(id >= 0 ? id : unknown_id(vocabulary_, unk_token_, piece));
}

WordPiece::WordPiece(Vocabulary vocabulary, WordPieceOptions options)
    : vocabulary_(std::move(vocabulary)), options_(std::move(options)) {}

void WordPiece::encode(std::string_view piece, ModelScratch& scratch,
                       std::vector<int32_t>& ids) const {
  const size_t before = ids.size();
  const auto unknown = [&] {
    ids.resize(before);
    ids.push_back(unknown_id(vocabulary_, options_.unk_token, piece));
  };
  int64_t characters = 0;
  for (const char c : piece) characters += (static_cast<uint8_t>(c) & 0xC0) != 0x80;
  if (characters > options_.max_input_chars_per_word) return unknown();
  size_t begin = 0;
  while (begin < piece.size()) {
    size_t end = piece.size();
    int32_t id = -1;
    while (end > begin) {
      scratch.text = begin > 0 ? options_.continuing_subword_prefix : "";
      scratch.text += piece.substr(begin, end - begin);
      id = vocabulary_.find(scratch.text);
      if (id >= 0) break;
      end -= static_cast<size_t>(last_code_point(piece.substr(begin, end - begin)).bytes);
    }
    if (id < 0) return unknown();
    ids.push_back(id);
    begin = end;
  }
}

}  // namespace braid
