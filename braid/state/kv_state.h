#pragma once
// Keys and values of softmax attention, and the sums of its forget gates where it has them
// (kernels/attention/decays.h), in pages of fixed absolute positions that snapshots share
// copy-on-write.

#include <algorithm>
#include <memory>

#include "braid/kernels/attention/tiles.h"
#include "braid/state/layer_state.h"
#include "braid/state/pages.h"
#include "braid/state/state_options.h"

namespace braid {

// Keys [positions, heads, head_dim] and values of one layer, and which of them a later token sees.
struct KvShape {
  int64_t heads = 0, head_dim = 0;
  int64_t window = 0, chunk = 0;  // as in AttentionConfig; 0 = all
  int64_t decay_heads = 0;        // query heads with forget gates; 0 = none
  int64_t prefix = 0;             // as in AttentionConfig: positions that no window leaves out
  int64_t value_dim = 0;          // channels of a value; 0 = head_dim

  int64_t values() const { return value_dim > 0 ? value_dim : head_dim; }  // channels of a value
  KvLayout layout(KvType type, int64_t tiles_per_page) const {
    return {type, head_dim, values(), tiles_per_page, decay_heads};
  }
  // Positions that the token at `position` sees: [0, kept) and [first, position).
  struct Seen {
    int64_t kept, first;
    int64_t rows(int64_t position) const { return kept + position - first; }
  };
  Seen seen(int64_t position) const {
    const int64_t first = AttentionConfig::first_key_seen(window, chunk, position);
    return {std::min(prefix, first), first};
  }
  // Of one position.
  size_t row_bytes(KvType type) const {
    return static_cast<size_t>(layout(type, 1).page(heads) / kKvTile);
  }
  bool operator==(const KvShape& other) const = default;
};

// How a cache is laid out, and what its positions are.
struct KvPaging {
  int64_t tiles = 4;     // of a page; 1 where tiles are chosen (ops/selected_attention.h)
  KvBlocks blocks = {};  // of tokens, one a position; files count in tokens
};

// What GrowingKv and RingKv share. Use: append() the new tokens, attend over view(), forget() what
// no later token sees.
class KvState : public LayerState {
 public:
  // Keys [tokens, heads, head_dim] and values with row strides ld_k and ld_v, as the next
  // positions; with forget gates the logarithms of theirs, [tokens, decay_heads] with row stride
  // ld_f.
  void append(const Context& ctx, const float* k, int64_t ld_k, const float* v, int64_t ld_v,
              int64_t tokens, const float* log_f = nullptr, int64_t ld_f = 0);
  // Valid until the state changes.
  KvView view() const { return {pages_.data(), pages_.first(), length_, layout_, pages_.kept()}; }
  void forget() { pages_.drop_before(shape_.seen(length_).first); }

  int64_t length() const override { return length_; }
  bool has_seen(int64_t tokens) const override { return length_ == blocks_.whole(tokens); }
  // Pages held; one that is shared with a snapshot counts in both.
  size_t bytes() const override { return pages_.bytes(); }
  void restore(const LayerState& other) override;
  void save(StateWriter& out, std::string_view prefix) const override;
  // Throws Error(kBadInput) for keys and values of another type.
  void load(StateReader& in, std::string_view prefix) override;
  void reset() override;

 protected:
  KvState(const Context& ctx, const KvShape& shape, const KvPaging& paging, KvType type);

 private:
  struct Rows;
  // The sums at the next positions, which follow those of the last one.
  void append_decays(const Context& ctx, const float* log_f, int64_t ld, int64_t tokens);
  double* decays(int64_t position, int64_t head) const;

  KvShape shape_;
  KvLayout layout_;
  KvBlocks blocks_;
  Pages pages_;
  int64_t length_ = 0;
};

// Everything since the start, in pages of 256 positions.
class GrowingKv final : public KvState {
 public:
  // shape has neither window nor chunks.
  GrowingKv(const Context& ctx, const KvShape& shape, KvType type = KvType::kF32,
            const KvPaging& paging = {});
  static size_t bytes_at(const KvShape& shape, int64_t tokens, KvType type = KvType::kF32,
                         const KvPaging& paging = {});
  std::string_view kind() const override { return "kv"; }
  std::unique_ptr<LayerState> snapshot() const override {
    return std::make_unique<GrowingKv>(*this);
  }
};

// What the next token sees besides itself: the last window - 1 positions, or the chunk that it
// continues, or what both leave (0 = no window, no chunks), and the prefix. In pages of 64.
class RingKv final : public KvState {
 public:
  RingKv(const Context& ctx, const KvShape& shape, KvType type = KvType::kF32);
  static size_t bytes_at(const KvShape& shape, int64_t tokens, KvType type = KvType::kF32);
  std::string_view kind() const override { return "ring"; }
  std::unique_ptr<LayerState> snapshot() const override { return std::make_unique<RingKv>(*this); }
};

}  // namespace braid
