#include "braid/state/pages.h"

#include <algorithm>
#include <cstring>

#include "braid/base/error.h"

namespace braid {

Pages::Pages(std::shared_ptr<Arena> arena, int64_t page_tokens, int64_t page_bytes, int64_t kept)
    : arena_(std::move(arena)),
      page_tokens_(page_tokens),
      page_bytes_(page_bytes),
      kept_(kept),
      first_(kept) {
  BRAID_CHECK(page_tokens > 0 && page_bytes > 0 && kept >= 0);
}

void Pages::own(int64_t begin, int64_t end, bool writes_all) {
  if (begin >= end) return;
  if (std::ssize(pages_) <= kept_) first_ = std::max(kept_, begin / page_tokens_);
  const size_t bytes = static_cast<size_t>(page_bytes_);
  for (int64_t p = begin / page_tokens_; p <= (end - 1) / page_tokens_; ++p) {
    const size_t at = slot(p);
    const bool fresh = at == pages_.size();
    if (!fresh && pages_[at].use_count() == 1) continue;
    std::shared_ptr<Storage> page = arena_->allocate(bytes);
    if (!arena_->dry()) {
      const bool whole = begin <= p * page_tokens_ && (p + 1) * page_tokens_ <= end;
      if (!fresh) {
        std::memcpy(page->data(), pages_[at]->data(), bytes);
      } else if (!whole || !writes_all) {
        // Masked positions have weight zero, which takes finite values to work.
        std::memset(page->data(), 0, bytes);
      }
    }
    if (fresh) {
      pages_.emplace_back();
      data_.emplace_back();
    }
    data_[at] = reinterpret_cast<const std::byte*>(page->data());
    pages_[at] = std::move(page);
  }
}

void Pages::drop_before(int64_t position) {
  const int64_t gone =
      std::min<int64_t>(position / page_tokens_ - first_, std::ssize(pages_) - kept_);
  if (gone <= 0) return;
  pages_.erase(pages_.begin() + kept_, pages_.begin() + kept_ + gone);
  data_.erase(data_.begin() + kept_, data_.begin() + kept_ + gone);
  first_ += gone;
}

void Pages::clear() {
  first_ = kept_;
  pages_.clear();
  data_.clear();
}

}  // namespace braid
