#include "braid/state/kv_state.h"

#include <algorithm>
#include <cstring>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/attention/decays.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/state/kv_rows.h"
#include "braid/state/state_copy.h"

namespace braid {

KvState::KvState(const Context& ctx, const KvShape& shape, const KvPaging& paging, KvType type)
    : shape_(shape),
      layout_(shape.layout(type, paging.tiles)),
      blocks_(paging.blocks),
      pages_(ctx.arena, paging.tiles * kKvTile, layout_.page(shape.heads),
             (kv_tiles(shape.prefix) + paging.tiles - 1) / paging.tiles) {
  BRAID_CHECK(shape.heads > 0 && shape.head_dim > 0 && shape.window >= 0 && shape.chunk >= 0 &&
              shape.prefix >= 0);
}

void KvState::append(const Context& ctx, const float* k, int64_t ld_k, const float* v, int64_t ld_v,
                     int64_t tokens, const float* log_f, int64_t ld_f) {
  BRAID_CHECK((log_f != nullptr) == (layout_.decay_heads > 0) || pages_.dry());
  if (tokens == 0) return;
  const int64_t begin = length_, end = begin + tokens;
  pages_.own(begin, end, layout_.padded_d() == layout_.d);
  const auto pack = [&](int64_t from, int64_t to) {
    for (int64_t t = from; t < to; ++t) {
      const int64_t low = std::max(begin, t * kKvTile), high = std::min(end, (t + 1) * kKvTile);
      const KvRows rows{k + (low - begin) * ld_k, ld_k, v + (low - begin) * ld_v, ld_v};
      pack_kv_rows(layout_, shape_.heads, rows, t, low % kKvTile, high - low,
                   pages_.at(t * kKvTile));
    }
  };
  const int64_t first = begin / kKvTile, last = (end - 1) / kKvTile;
  if (last - first > 1) {
    // Whole pages: the system's first touch of one is a thread's own.
    const int64_t tiles = layout_.tiles_per_page, page = first / tiles;
    parallel_for(ctx, last / tiles + 1 - page, 1, [&](int64_t from, int64_t to) {
      pack(std::max(first, (page + from) * tiles), std::min(last + 1, (page + to) * tiles));
    });
  } else if (!pages_.dry()) {
    pack(first, last + 1);  // a decode step: waking threads would cost more
  }
  if (layout_.decay_heads > 0) append_decays(ctx, log_f, ld_f, tokens);
  length_ = end;
}

double* KvState::decays(int64_t position, int64_t head) const {
  std::byte* run = pages_.at(position) + layout_.decays(position / kKvTile, head);
  return reinterpret_cast<double*>(run) + position % kKvTile;
}

void KvState::append_decays(const Context& ctx, const float* log_f, int64_t ld, int64_t tokens) {
  // Before the first page there is nothing that a later token could still see.
  const bool follows = length_ > 0 && (length_ - 1) / pages_.page_tokens() >= pages_.first();
  parallel_for(ctx, layout_.decay_heads, 8, [&](int64_t begin, int64_t end) {
    for (int64_t head = begin; head < end; ++head) {
      double sum = follows ? *decays(length_ - 1, head) : 0;
      for (int64_t t = 0; t < tokens;) {
        const int64_t some = std::min(tokens - t, kKvTile - (length_ + t) % kKvTile);
        sum = cumulate_decays(log_f + t * ld + head, ld, some, sum, decays(length_ + t, head));
        t += some;
      }
    }
  });
}

void KvState::restore(const LayerState& other) {
  const auto* from = dynamic_cast<const KvState*>(&other);
  BRAID_CHECK(from != nullptr && from->shape_ == shape_ && from->layout_.type == layout_.type &&
              from->layout_.tiles_per_page == layout_.tiles_per_page);
  pages_ = from->pages_;
  length_ = from->length_;
}

// Keys and values of the positions that a later token sees as they are stored, one after another:
// [rows, kv_heads, d] and [rows, kv_heads, dv], in q8 their scales [rows, kv_heads], and with
// forget gates their sums as two floats each, [rows, decay_heads, 2].
struct KvState::Rows {
  Tensor k, v, k_scales, v_scales, decays;

  static Shape keys(const KvState& s, int64_t rows) { return {rows, s.shape_.heads, s.layout_.d}; }
  static Shape values(const KvState& s, int64_t rows) {
    return {rows, s.shape_.heads, s.layout_.dv};
  }

  // Copies the positions out of the pages, or into them.
  void exchange(const KvState& s, const KvShape::Seen& seen, bool out) const {
    const KvLayout& l = s.layout_;
    const int64_t size = kv_element_bytes(l.type);
    for (int64_t p = 0; p < k.size(0); ++p) {
      const int64_t position = p < seen.kept ? p : seen.first + p - seen.kept;
      const int64_t tile = position / kKvTile, row = position % kKvTile;
      std::byte* page = s.pages_.at(position);
      for (int64_t h = 0; h < l.decay_heads; ++h) {
        double& sum = *s.decays(position, h);
        float* pair = decays.data() + (p * l.decay_heads + h) * 2;
        if (out) {
          pair[0] = static_cast<float>(sum);
          pair[1] = static_cast<float>(sum - pair[0]);
        } else {
          sum = static_cast<double>(pair[0]) + pair[1];
        }
      }
      for (int64_t h = 0; h < s.shape_.heads; ++h) {
        std::byte *keys = page + l.keys(tile, h), *values = page + l.values(tile, h);
        const int64_t at = p * s.shape_.heads + h;
        std::byte* to_k = k.data<std::byte>() + at * l.d * size;
        std::byte* to_v = v.data<std::byte>() + at * l.dv * size;
        for (int64_t i = 0; i < l.d; ++i)
          exchange_bytes(keys + l.key_at(row, i) * size, to_k + i * size, size, out);
        for (int64_t i = 0; i < l.dv; ++i)
          exchange_bytes(values + l.value_at(row, i) * size, to_v + i * size, size, out);
        if (l.type != KvType::kQ8) continue;
        exchange_bytes(keys + l.key_tile() - l.scale_bytes() + row * 4,
                       reinterpret_cast<std::byte*>(k_scales.data() + at), 4, out);
        exchange_bytes(values + l.value_tile() - l.scale_bytes() + row * 4,
                       reinterpret_cast<std::byte*>(v_scales.data() + at), 4, out);
      }
    }
  }
};

void KvState::save(StateWriter& out, std::string_view prefix) const {
  const KvShape::Seen seen = shape_.seen(length_);
  const int64_t rows = seen.rows(length_);
  const Context ctx{pages_.arena()};
  const DType type = kv_dtype(layout_.type);
  Rows r;
  r.k = Tensor::empty(ctx, Rows::keys(*this, rows), type);
  r.v = Tensor::empty(ctx, Rows::values(*this, rows), type);
  if (layout_.type == KvType::kQ8) {
    r.k_scales = Tensor::empty(ctx, {rows, shape_.heads});
    r.v_scales = Tensor::empty(ctx, {rows, shape_.heads});
  }
  if (layout_.decay_heads > 0) r.decays = Tensor::empty(ctx, {rows, layout_.decay_heads, 2});
  if (!pages_.dry()) r.exchange(*this, seen, true);
  out.integer(state_name(prefix, "length"), blocks_.tokens(length_));
  out.integer(state_name(prefix, "type"), static_cast<int64_t>(layout_.type));
  out.tensor(state_name(prefix, "k"), r.k);
  out.tensor(state_name(prefix, "v"), r.v);
  if (r.decays.defined()) out.tensor(state_name(prefix, "decays"), r.decays);
  if (layout_.type != KvType::kQ8) return;
  out.tensor(state_name(prefix, "k_scales"), r.k_scales);
  out.tensor(state_name(prefix, "v_scales"), r.v_scales);
}

void KvState::load(StateReader& in, std::string_view prefix) {
  const int64_t length = blocks_.whole(load_kv_header(in, prefix, layout_.type));
  const KvShape::Seen seen = shape_.seen(length);
  const int64_t rows = seen.rows(length);
  const DType type = kv_dtype(layout_.type);
  Rows r;
  r.k = in.tensor(state_name(prefix, "k"), Rows::keys(*this, rows), type);
  r.v = in.tensor(state_name(prefix, "v"), Rows::values(*this, rows), type);
  if (layout_.decay_heads > 0)
    r.decays = in.tensor(state_name(prefix, "decays"), {rows, layout_.decay_heads, 2});
  if (layout_.type == KvType::kQ8) {
    r.k_scales = in.tensor(state_name(prefix, "k_scales"), {rows, shape_.heads});
    r.v_scales = in.tensor(state_name(prefix, "v_scales"), {rows, shape_.heads});
  }
  reset();
  length_ = length;
  pages_.own(0, seen.kept);
  pages_.own(seen.first, length);
  if (!pages_.dry()) r.exchange(*this, seen, false);
}

void KvState::reset() {
  pages_.clear();
  length_ = 0;
}

GrowingKv::GrowingKv(const Context& ctx, const KvShape& shape, KvType type, const KvPaging& paging)
    : KvState(ctx, shape, paging, type) {
  BRAID_CHECK(shape.window == 0 && shape.chunk == 0);
}

size_t GrowingKv::bytes_at(const KvShape& shape, int64_t tokens, KvType type,
                           const KvPaging& paging) {
  const int64_t positions = paging.blocks.whole(tokens);
  const int64_t pages = (kv_tiles(positions) + paging.tiles - 1) / paging.tiles;
  return static_cast<size_t>(pages * shape.layout(type, paging.tiles).page(shape.heads));
}

RingKv::RingKv(const Context& ctx, const KvShape& shape, KvType type)
    : KvState(ctx, shape, {.tiles = 1}, type) {
  BRAID_CHECK(shape.window > 0 || shape.chunk > 0);
}

size_t RingKv::bytes_at(const KvShape& shape, int64_t tokens, KvType type) {
  const int64_t all = kv_tiles(tokens), kept = std::min(kv_tiles(shape.prefix), all);
  const int64_t first = std::clamp(shape.seen(tokens).first / kKvTile, kept, all);
  return static_cast<size_t>((kept + all - first) * shape.layout(type, 1).page(shape.heads));
}

}  // namespace braid
