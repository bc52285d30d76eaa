#include "braid/text/tokenizer/vocabulary.h"

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"
#include "braid/text/tokenizer/text_hash.h"

namespace braid {

void Vocabulary::add(int64_t id, std::string_view token) {
  if (id < 0 || id > kMaxId) {
    throw Error(ErrorKind::kBadInput, format("token '{}' has the id {}; ids go from 0 to {}",
                                             printable(token), id, kMaxId));
  }
  const auto row = static_cast<size_t>(id);
  if (row >= spans_.size()) spans_.resize(row + 1);
  if (spans_[row].bytes >= 0) {
    throw Error(ErrorKind::kBadInput,
                format("tokens '{}' and '{}' have the same id {}",
                       printable(at(static_cast<int32_t>(id))), printable(token), id));
  }
  if (text_.size() + token.size() > UINT32_MAX) {
    throw Error(ErrorKind::kBadInput, "a vocabulary of more than 4 GiB of text");
  }
  if (static_cast<size_t>(count_ + 1) * 2 > table_.size()) grow();
  spans_[row] = {static_cast<uint32_t>(text_.size()), static_cast<int32_t>(token.size())};
  text_ += token;
  ++count_;
  const size_t mask = table_.size() - 1;
  size_t slot = text_hash(token) & mask;
  for (; table_[slot] >= 0; slot = (slot + 1) & mask) {
    if (at(table_[slot]) == token) break;
  }
  table_[slot] = static_cast<int32_t>(id);
}

int32_t Vocabulary::find(std::string_view token) const {
  if (table_.empty()) return -1;
  const size_t mask = table_.size() - 1;
  for (size_t slot = text_hash(token) & mask; table_[slot] >= 0; slot = (slot + 1) & mask) {
    if (at(table_[slot]) == token) return table_[slot];
  }
  return -1;
}

bool Vocabulary::has(int32_t id) const {
  return id >= 0 && id < size() && spans_[static_cast<size_t>(id)].bytes >= 0;
}

std::string_view Vocabulary::at(int32_t id) const {
  const Span& s = spans_[static_cast<size_t>(id)];
  return {text_.data() + s.offset, static_cast<size_t>(s.bytes)};
}

void Vocabulary::grow() {
  const std::vector<int32_t> old = std::move(table_);
  table_.assign(old.empty() ? 64 : old.size() * 2, -1);
  const size_t mask = table_.size() - 1;
  for (const int32_t id : old) {
    if (id < 0) continue;
    size_t slot = text_hash(at(id)) & mask;
    while (table_[slot] >= 0) slot = (slot + 1) & mask;
    table_[slot] = id;
  }
}

}  // namespace braid
