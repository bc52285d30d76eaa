#include "braid/text/tokenizer/piece_cache.h"

#include <cstring>

#include "braid/text/tokenizer/text_hash.h"

namespace braid {

std::span<const int32_t> PieceCache::find(std::string_view piece, uint64_t hash) const {
  if (entries_.empty()) return {};
  const size_t mask = entries_.size() - 1;
  const auto tag = static_cast<uint32_t>(hash >> 32);
  for (size_t slot = hash & mask; entries_[slot].bytes != 0; slot = (slot + 1) & mask) {
    const Entry& e = entries_[slot];
    if (e.tag == tag && e.bytes == piece.size() &&
        std::memcmp(texts_.data() + e.text, piece.data(), piece.size()) == 0) {
      return {ids_.data() + e.ids, e.count};
    }
  }
  return {};
}

void PieceCache::insert(std::string_view piece, uint64_t hash, std::span<const int32_t> ids) {
  if (piece.empty() || piece.size() > kMaxPieceBytes || ids.empty() || ids.size() > UINT16_MAX) {
    return;
  }
  if (used_ == kMaxEntries || texts_.size() > kMaxBytes || ids_.size() * 4 > kMaxBytes) {
    entries_.assign(entries_.size(), {});
    texts_.clear();
    ids_.clear();
    used_ = 0;
  }
  if ((used_ + 1) * 2 > entries_.size()) grow();
  const size_t mask = entries_.size() - 1;
  size_t slot = hash & mask;
  while (entries_[slot].bytes != 0) slot = (slot + 1) & mask;
  entries_[slot] = {static_cast<uint32_t>(hash >> 32), static_cast<uint32_t>(texts_.size()),
                    static_cast<uint32_t>(ids_.size()), static_cast<uint16_t>(piece.size()),
                    static_cast<uint16_t>(ids.size())};
  texts_ += piece;
  ids_.insert(ids_.end(), ids.begin(), ids.end());
  ++used_;
}

void PieceCache::grow() {
  std::vector<Entry> old(entries_.empty() ? 1024 : entries_.size() * 2);
  old.swap(entries_);
  const size_t mask = entries_.size() - 1;
  for (const Entry& e : old) {
    if (e.bytes == 0) continue;
    // The slot needs the low half of the hash, which the entry does not keep.
    size_t slot = text_hash({texts_.data() + e.text, e.bytes}) & mask;
    while (entries_[slot].bytes != 0) slot = (slot + 1) & mask;
    entries_[slot] = e;
  }
}

}  // namespace braid
