#include "braid/state/kv_state.h"

#include <algorithm>
#include <cstring>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/attention/pack.h"
#include "braid/state/state_copy.h"

namespace braid {
namespace {

constexpr int64_t kGrowingTilesPerPage = 4;

}  // namespace

KvState::KvState(const Context& ctx, int64_t kv_heads, int64_t head_dim, int64_t window,
                 int64_t chunk, int64_t tiles_per_page)
    : arena_(ctx.arena),
      kv_heads_(kv_heads),
      head_dim_(head_dim),
      window_(window),
      chunk_(chunk),
      tiles_per_page_(tiles_per_page) {
  BRAID_CHECK(kv_heads > 0 && head_dim > 0 && window >= 0 && chunk >= 0);
}

int64_t KvState::first_seen() const {
  return AttentionConfig::first_key_seen(window_, chunk_, length_);
}

KvView KvState::view() const {
  return {tiles_.data(), first_page_ * tiles_per_page_, length_,
          kv_layout(head_dim_, head_dim_, tiles_per_page_)};
}

size_t KvState::page_bytes() const {
  return static_cast<size_t>(kv_page_floats(kv_heads_, head_dim_, head_dim_, tiles_per_page_)) *
         sizeof(float);
}

float* KvState::tile(int64_t index) const {
  const int64_t page = index / tiles_per_page_ - first_page_;
  return reinterpret_cast<float*>(pages_[static_cast<size_t>(page)]->data()) +
         index % tiles_per_page_ * kKvTile * head_dim_;
}

void KvState::own_pages(int64_t tokens) {
  const int64_t page_tokens = tiles_per_page_ * kKvTile;
  if (pages_.empty()) first_page_ = length_ / page_tokens;
  const int64_t begin = length_ / page_tokens, end = (length_ + tokens - 1) / page_tokens + 1;
  for (int64_t p = begin; p < end; ++p) {
    const size_t at = static_cast<size_t>(p - first_page_);
    const bool fresh = at == pages_.size();
    if (!fresh && pages_[at].use_count() == 1) continue;
    std::shared_ptr<Storage> page = arena_->allocate(page_bytes());
    if (!arena_->dry()) {
      // Masked keys have weight zero, which takes finite values to work.
      if (fresh) {
        std::memset(page->data(), 0, page_bytes());
      } else {
        std::memcpy(page->data(), pages_[at]->data(), page_bytes());
      }
    }
    if (fresh) {
      pages_.push_back(std::move(page));
      tiles_.resize(pages_.size() * static_cast<size_t>(tiles_per_page_));
    } else {
      pages_[at] = std::move(page);
    }
    for (int64_t t = 0; t < tiles_per_page_; ++t) {
      tiles_[at * static_cast<size_t>(tiles_per_page_) + static_cast<size_t>(t)] =
          tile(p * tiles_per_page_ + t);
    }
  }
}

void KvState::append(const Context& ctx, const float* k, int64_t ld_k, const float* v, int64_t ld_v,
                     int64_t tokens) {
  if (tokens == 0) return;
  own_pages(tokens);
  const int64_t begin = length_, first = begin / kKvTile, end = begin + tokens;
  const KvLayout layout = kv_layout(head_dim_, head_dim_, tiles_per_page_);
  const auto pack = [&](int64_t from, int64_t to) {
    for (int64_t t = first + from; t < first + to; ++t) {
      const int64_t low = std::max(begin, t * kKvTile), high = std::min(end, (t + 1) * kKvTile);
      const KvRows rows{
          head_dim_, head_dim_, k + (low - begin) * ld_k, ld_k, v + (low - begin) * ld_v, ld_v};
      pack_kv_rows(layout, kv_heads_, rows, low % kKvTile, high - low, tile(t));
    }
  };
  const int64_t count = (end - 1) / kKvTile + 1 - first;
  if (count > 2) {
    parallel_for(ctx, count, 1, pack);
  } else if (!arena_->dry()) {
    pack(0, count);  // a decode step: waking threads would cost more
  }
  length_ = end;
}

void KvState::forget() {
  const int64_t page_tokens = tiles_per_page_ * kKvTile;
  const int64_t gone = std::min<int64_t>(first_seen() / page_tokens - first_page_,
                                         static_cast<int64_t>(pages_.size()));
  if (gone <= 0) return;
  pages_.erase(pages_.begin(), pages_.begin() + gone);
  tiles_.erase(tiles_.begin(), tiles_.begin() + gone * tiles_per_page_);
  first_page_ += gone;
}

void KvState::restore(const LayerState& other) {
  const auto* from = dynamic_cast<const KvState*>(&other);
  BRAID_CHECK(from != nullptr && from->kv_heads_ == kv_heads_ && from->head_dim_ == head_dim_ &&
              from->window_ == window_ && from->chunk_ == chunk_ &&
              from->tiles_per_page_ == tiles_per_page_);
  first_page_ = from->first_page_;
  length_ = from->length_;
  pages_ = from->pages_;
  tiles_ = from->tiles_;
}

void KvState::save(StateWriter& out, std::string_view prefix) const {
  const int64_t first = first_seen(), rows = length_ - first, ld = kv_heads_ * head_dim_;
  Context ctx{arena_};
  Tensor k = Tensor::empty(ctx, {rows, kv_heads_, head_dim_}), v = Tensor::empty(ctx, k.shape());
  if (!arena_->dry()) {
    for (int64_t at = first; at < length_;) {
      const int64_t column = at % kKvTile, count = std::min(kKvTile - column, length_ - at);
      for (int64_t h = 0; h < kv_heads_; ++h) {
        const float* keys = view().keys(at / kKvTile, h);
        const int64_t to = (at - first) * ld + h * head_dim_;
        unpack_columns(keys + column, count, head_dim_, 1.0f, k.data() + to, ld);
        const float* value = view().values(at / kKvTile, h) + column * head_dim_;
        for (int64_t r = 0; r < count; ++r)
          std::copy_n(value + r * head_dim_, head_dim_, v.data() + to + r * ld);
      }
      at += count;
    }
  }
  out.integer(state_name(prefix, "length"), length_);
  out.tensor(state_name(prefix, "k"), k);
  out.tensor(state_name(prefix, "v"), v);
}

void KvState::load(StateReader& in, std::string_view prefix) {
  const std::string name = state_name(prefix, "length");
  const int64_t length = in.integer(name);
  if (length < 0)
    throw Error(ErrorKind::kBadInput, format("{} is {}, expected 0 or more", name, length));
  const int64_t first = AttentionConfig::first_key_seen(window_, chunk_, length),
                ld = kv_heads_ * head_dim_;
  const Shape shape{length - first, kv_heads_, head_dim_};
  const Tensor k = in.tensor(state_name(prefix, "k"), shape),
               v = in.tensor(state_name(prefix, "v"), shape);
  reset();
  length_ = first;
  Context ctx{arena_};
  append(ctx, k.data(), ld, v.data(), ld, length - first);
}

void KvState::reset() {
  first_page_ = 0;
  length_ = 0;
  pages_.clear();
  tiles_.clear();
}

GrowingKv::GrowingKv(const Context& ctx, int64_t kv_heads, int64_t head_dim)
    : KvState(ctx, kv_heads, head_dim, 0, 0, kGrowingTilesPerPage) {}

size_t GrowingKv::bytes_at(int64_t kv_heads, int64_t head_dim, int64_t tokens) {
  const int64_t pages = (kv_tiles(tokens) + kGrowingTilesPerPage - 1) / kGrowingTilesPerPage;
  return static_cast<size_t>(pages *
                             kv_page_floats(kv_heads, head_dim, head_dim, kGrowingTilesPerPage)) *
         sizeof(float);
}

RingKv::RingKv(const Context& ctx, int64_t kv_heads, int64_t head_dim, int64_t window,
               int64_t chunk)
    : KvState(ctx, kv_heads, head_dim, window, chunk, 1) {
  BRAID_CHECK(window > 0 || chunk > 0);
}

size_t RingKv::bytes_at(int64_t kv_heads, int64_t head_dim, int64_t window, int64_t chunk,
                        int64_t tokens) {
  const int64_t first = AttentionConfig::first_key_seen(window, chunk, tokens);
  const int64_t tiles = kv_tiles(tokens) - std::min(first / kKvTile, kv_tiles(tokens));
  return static_cast<size_t>(tiles * kv_page_floats(kv_heads, head_dim, head_dim, 1)) *
         sizeof(float);
}

}  // namespace braid
