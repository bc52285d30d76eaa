#pragma once
// Keys and values of softmax attention, in pages of fixed absolute positions that snapshots share
// copy-on-write.

#include <memory>
#include <vector>

#include "braid/kernels/attention/tiles.h"
#include "braid/state/layer_state.h"

namespace braid {

// What GrowingKv and RingKv share. Use: append() the new tokens, attend over view(), forget() what
// no later token sees.
class KvState : public LayerState {
 public:
  // Tokens [tokens, kv_heads, d] with row strides ld_k and ld_v, as the next positions.
  void append(const Context& ctx, const float* k, int64_t ld_k, const float* v, int64_t ld_v,
              int64_t tokens);
  // Valid until the state changes.
  KvView view() const;
  void forget();

  int64_t length() const override { return length_; }
  // Pages held; one that is shared with a snapshot counts in both.
  size_t bytes() const override { return pages_.size() * page_bytes(); }
  void restore(const LayerState& other) override;
  void save(StateWriter& out, std::string_view prefix) const override;
  void load(StateReader& in, std::string_view prefix) override;
  void reset() override;

 protected:
  KvState(const Context& ctx, int64_t kv_heads, int64_t head_dim, int64_t window, int64_t chunk,
          int64_t tiles_per_page);

 private:
  size_t page_bytes() const;
  // First position that the next token will see.
  int64_t first_seen() const;
  float* tile(int64_t index) const;
  // Makes pages that hold positions [length, length + tokens) exist and belong to this state alone.
  void own_pages(int64_t tokens);

  std::shared_ptr<Arena> arena_;
  int64_t kv_heads_, head_dim_, window_, chunk_, tiles_per_page_;
  int64_t first_page_ = 0;
  int64_t length_ = 0;
  std::vector<std::shared_ptr<Storage>> pages_;
  std::vector<const float*> tiles_;  // of all pages
};

// Everything since the start, in pages of 256 positions.
class GrowingKv final : public KvState {
 public:
  GrowingKv(const Context& ctx, int64_t kv_heads, int64_t head_dim);
  static size_t bytes_at(int64_t kv_heads, int64_t head_dim, int64_t tokens);
  std::string_view kind() const override { return "kv"; }
  std::unique_ptr<LayerState> snapshot() const override {
    return std::make_unique<GrowingKv>(*this);
  }
};

// What the next token sees besides itself: the last window - 1 positions, or the chunk that it
// continues, or what both leave (0 = no window, no chunks). In pages of 64.
class RingKv final : public KvState {
 public:
  RingKv(const Context& ctx, int64_t kv_heads, int64_t head_dim, int64_t window, int64_t chunk = 0);
  static size_t bytes_at(int64_t kv_heads, int64_t head_dim, int64_t window, int64_t chunk,
                         int64_t tokens);
  std::string_view kind() const override { return "ring"; }
  std::unique_ptr<LayerState> snapshot() const override { return std::make_unique<RingKv>(*this); }
};

}  // namespace braid
