#include "braid/state/latent_kv.h"

#include "braid/core/parallel.h"
#include "braid/state/kv_rows.h"
#include "braid/state/state_copy.h"

namespace braid {

LatentKv::LatentKv(const Context& ctx, int64_t rank, int64_t rope, KvType type,
                   int64_t tokens_per_row)
    : layout_{type, rank, rope},
      pages_(ctx.arena, kLatentPage, layout_.page()),
      tokens_per_row_(tokens_per_row) {
  BRAID_CHECK(rank > 0 && rope >= 0 && tokens_per_row > 0);
}

size_t LatentKv::bytes_at(int64_t rank, int64_t rope, int64_t tokens, KvType type) {
  const int64_t pages = (tokens + kLatentPage - 1) / kLatentPage;
  return static_cast<size_t>(pages * LatentLayout{type, rank, rope}.page());
}

size_t LatentKv::row_bytes(int64_t rank, int64_t rope, KvType type) {
  return static_cast<size_t>(LatentLayout{type, rank, rope}.row());
}

void LatentKv::append(const Context& ctx, const float* c, int64_t ld_c, const float* k,
                      int64_t ld_k, int64_t tokens) {
  if (tokens == 0) return;
  pages_.own(length_, length_ + tokens);
  const auto pack = [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t)
      pack_latent(layout_, c + t * ld_c, k + t * ld_k, row(length_ + t));
  };
  if (tokens > 16) {
    parallel_for(ctx, tokens, 16, pack);
  } else if (!pages_.dry()) {
    pack(0, tokens);  // a decode step: waking threads would cost more
  }
  length_ += tokens;
}

void LatentKv::restore(const LayerState& other) {
  const auto* from = dynamic_cast<const LatentKv*>(&other);
  BRAID_CHECK(from != nullptr && from->layout_.type == layout_.type &&
              from->layout_.rank == layout_.rank && from->layout_.rope == layout_.rope);
  pages_ = from->pages_;
  length_ = from->length_;
}

// Numbers or codes [rows, width], and in q8 their scales.
struct LatentKv::Rows {
  Tensor numbers, scales;

  static Shape shape(const LatentKv& s, int64_t rows) { return {rows, s.layout_.width()}; }
  static Shape scale_shape(const LatentKv& s, int64_t rows) { return {rows, s.layout_.scales()}; }

  void exchange(const LatentKv& s, bool out) const {
    const int64_t scale_bytes = 4 * s.layout_.scales();
    const int64_t bytes = s.layout_.width() * kv_element_bytes(s.layout_.type);
    for (int64_t p = 0; p < numbers.size(0); ++p) {
      std::byte* row = s.row(p);
      exchange_bytes(row + scale_bytes, numbers.data<std::byte>() + p * bytes, bytes, out);
      if (scale_bytes > 0)
        exchange_bytes(row, scales.data<std::byte>() + p * scale_bytes, scale_bytes, out);
    }
  }
};

void LatentKv::save(StateWriter& out, std::string_view prefix) const {
  const Context ctx{pages_.arena()};
  const bool q8 = layout_.type == KvType::kQ8;
  Rows rows{Tensor::empty(ctx, Rows::shape(*this, length_), kv_dtype(layout_.type)), {}};
  if (q8) rows.scales = Tensor::empty(ctx, Rows::scale_shape(*this, length_));
  if (!pages_.dry()) rows.exchange(*this, true);
  out.integer(state_name(prefix, "length"), length_ * tokens_per_row_);
  out.integer(state_name(prefix, "type"), static_cast<int64_t>(layout_.type));
  out.tensor(state_name(prefix, "latent"), rows.numbers);
  if (q8) out.tensor(state_name(prefix, "latent_scales"), rows.scales);
}

void LatentKv::load(StateReader& in, std::string_view prefix) {
  const int64_t length = load_kv_header(in, prefix, layout_.type) / tokens_per_row_;
  Rows rows{
      in.tensor(state_name(prefix, "latent"), Rows::shape(*this, length), kv_dtype(layout_.type)),
      {}};
  if (layout_.type == KvType::kQ8)
    rows.scales = in.tensor(state_name(prefix, "latent_scales"), Rows::scale_shape(*this, length));
  reset();
  length_ = length;
  pages_.own(0, length);
  if (!pages_.dry()) rows.exchange(*this, false);
}

void LatentKv::reset() {
  pages_.clear();
  length_ = 0;
}

}  // namespace braid
