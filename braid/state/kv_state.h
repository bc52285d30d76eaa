#pragma once
// Keys and values of softmax attention, and the sums of its forget gates where it has them
// (kernels/attention/decays.h), in pages of fixed absolute positions that snapshots share
// copy-on-write.

#include <memory>

#include "braid/kernels/attention/tiles.h"
#include "braid/state/layer_state.h"
#include "braid/state/pages.h"
#include "braid/state/state_options.h"

namespace braid {

// What GrowingKv and RingKv share. Use: append() the new tokens, attend over view(), forget() what
// no later token sees.
class KvState : public LayerState {
 public:
  // Tokens [tokens, kv_heads, d] with row strides ld_k and ld_v, as the next positions; with forget
  // gates the logarithms of theirs, [tokens, decay_heads] with row stride ld_f.
  void append(const Context& ctx, const float* k, int64_t ld_k, const float* v, int64_t ld_v,
              int64_t tokens, const float* log_f = nullptr, int64_t ld_f = 0);
  // Valid until the state changes.
  KvView view() const { return {pages_.data(), pages_.first(), length_, layout_}; }
  void forget() { pages_.drop_before(first_seen()); }

  int64_t length() const override { return length_; }
  // Pages held; one that is shared with a snapshot counts in both.
  size_t bytes() const override { return pages_.bytes(); }
  void restore(const LayerState& other) override;
  void save(StateWriter& out, std::string_view prefix) const override;
  // Throws Error(kBadInput) for keys and values of another type.
  void load(StateReader& in, std::string_view prefix) override;
  void reset() override;

 protected:
  KvState(const Context& ctx, int64_t kv_heads, int64_t head_dim, int64_t window, int64_t chunk,
          int64_t tiles_per_page, KvType type, int64_t decay_heads, KvBlocks blocks = {});

 private:
  struct Rows;
  // The sums at the next positions, which follow those of the last one.
  void append_decays(const Context& ctx, const float* log_f, int64_t ld, int64_t tokens);
  double* decays(int64_t position, int64_t head) const;
  // First position that the next token will see.
  int64_t first_seen() const;

  int64_t kv_heads_, window_, chunk_;
  KvLayout layout_;
  KvBlocks blocks_;
  Pages pages_;
  int64_t length_ = 0;
};

// How a growing cache is laid out, and what its positions are.
struct KvPaging {
  int64_t tiles = 4;     // of a page; 1 where tiles are chosen (ops/selected_attention.h)
  KvBlocks blocks = {};  // of tokens, one a position; files count in tokens
};

// Everything since the start, in pages of 256 positions.
class GrowingKv final : public KvState {
 public:
  GrowingKv(const Context& ctx, int64_t kv_heads, int64_t head_dim, KvType type = KvType::kF32,
            int64_t decay_heads = 0, KvPaging paging = {});
  static size_t bytes_at(int64_t kv_heads, int64_t head_dim, int64_t tokens,
                         KvType type = KvType::kF32, int64_t decay_heads = 0, KvPaging paging = {});
  std::string_view kind() const override { return "kv"; }
  std::unique_ptr<LayerState> snapshot() const override {
    return std::make_unique<GrowingKv>(*this);
  }
};

// What the next token sees besides itself: the last window - 1 positions, or the chunk that it
// continues, or what both leave (0 = no window, no chunks). In pages of 64.
class RingKv final : public KvState {
 public:
  RingKv(const Context& ctx, int64_t kv_heads, int64_t head_dim, int64_t window, int64_t chunk = 0,
         KvType type = KvType::kF32, int64_t decay_heads = 0);
  static size_t bytes_at(int64_t kv_heads, int64_t head_dim, int64_t window, int64_t chunk,
                         int64_t tokens, KvType type = KvType::kF32, int64_t decay_heads = 0);
  std::string_view kind() const override { return "ring"; }
  std::unique_ptr<LayerState> snapshot() const override { return std::make_unique<RingKv>(*this); }
};

}  // namespace braid
