#pragma once
// What multi-head latent attention keeps of every token: one row for all heads
// (kernels/attention/latent.h), in pages that snapshots share copy-on-write.

#include <memory>

#include "braid/kernels/attention/latent.h"
#include "braid/state/layer_state.h"
#include "braid/state/pages.h"
#include "braid/state/state_options.h"

namespace braid {

class LatentKv final : public LayerState {
 public:
  // tokens_per_row: a row stands for so many tokens (a block's mean); files count in tokens.
  LatentKv(const Context& ctx, int64_t rank, int64_t rope, KvType type = KvType::kF32,
           int64_t tokens_per_row = 1);
  static size_t bytes_at(int64_t rank, int64_t rope, int64_t tokens, KvType type = KvType::kF32);
  static size_t row_bytes(int64_t rank, int64_t rope, KvType type = KvType::kF32);

  // c [tokens, rank] and k [tokens, rope] with their row strides, as the next positions.
  void append(const Context& ctx, const float* c, int64_t ld_c, const float* k, int64_t ld_k,
              int64_t tokens);
  // Valid until the state changes.
  LatentView view() const { return {pages_.data(), length_, layout_}; }

  std::string_view kind() const override { return "latent"; }
  int64_t length() const override { return length_; }  // rows
  bool has_seen(int64_t tokens) const override { return length_ == tokens / tokens_per_row_; }
  // Pages held; one that is shared with a snapshot counts in both.
  size_t bytes() const override { return pages_.bytes(); }
  std::unique_ptr<LayerState> snapshot() const override {
    return std::make_unique<LatentKv>(*this);
  }
  void restore(const LayerState& other) override;
  void save(StateWriter& out, std::string_view prefix) const override;
  // Throws Error(kBadInput) for latents of another type.
  void load(StateReader& in, std::string_view prefix) override;
  void reset() override;

 private:
  struct Rows;
  std::byte* row(int64_t position) const {
    return pages_.at(position) + position % kLatentPage * layout_.row();
  }

  LatentLayout layout_;
  Pages pages_;
  int64_t length_ = 0, tokens_per_row_;
};

}  // namespace braid
