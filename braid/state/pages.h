#pragma once
// Memory of fixed absolute positions that grows at one end, may be dropped at the other but for its
// first pages, and that copies share page by page until one of them writes.

#include <cstddef>
#include <memory>
#include <vector>

#include "braid/core/arena.h"

namespace braid {

class Pages {
 public:
  // The first `kept` pages are never dropped.
  Pages(std::shared_ptr<Arena> arena, int64_t page_tokens, int64_t page_bytes, int64_t kept = 0);

  // Pages that hold positions [begin, end) exist and belong to this object alone; fresh ones are
  // zero, but for those that lie whole within them where the caller `writes_all`. When there is
  // none yet behind the kept ones, the first there is begin's.
  void own(int64_t begin, int64_t end, bool writes_all = false);
  // Lets go of pages that lie before `position` whole, but for the kept ones.
  void drop_before(int64_t position);
  void clear();

  int64_t kept() const { return kept_; }
  // Number of the first page behind the kept ones: position / page_tokens.
  int64_t first() const { return first_; }
  const std::byte* const* data() const { return data_.data(); }
  std::byte* at(int64_t position) const {  // the page that holds it
    return reinterpret_cast<std::byte*>(pages_[slot(position / page_tokens_)]->data());
  }
  int64_t page_tokens() const { return page_tokens_; }
  // Pages held; one that is shared counts in every holder.
  size_t bytes() const { return pages_.size() * static_cast<size_t>(page_bytes_); }
  bool dry() const { return arena_->dry(); }
  const std::shared_ptr<Arena>& arena() const { return arena_; }

 private:
  size_t slot(int64_t page) const {
    return static_cast<size_t>(page < kept_ ? page : page - first_ + kept_);
  }

  std::shared_ptr<Arena> arena_;
  int64_t page_tokens_, page_bytes_, kept_;
  int64_t first_;
  std::vector<std::shared_ptr<Storage>> pages_;
  std::vector<const std::byte*> data_;
};

}  // namespace braid
