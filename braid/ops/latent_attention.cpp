#include "braid/ops/latent_attention.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "braid/kernels/attention/decode.h"
#include "braid/kernels/attention/forward.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/kernels/attention/pack.h"
#include "braid/kernels/gemm/gemm.h"
#include "braid/ops/attention.h"
#include "braid/ops/scratch_slots.h"
#include "braid/ops/step.h"
#include "braid/ops/weight_product.h"

namespace braid {
namespace {

constexpr float kLog2E = 1.44269504088896341f;
constexpr int64_t kPieceFloats = int64_t{1} << 23;  // of expanded keys and values at a time

// Rows [first, first + count) of kv_b as a product reads them.
WeightView weight_rows(const Parameter& kv_b, int64_t first, int64_t count) {
  WeightView w = weight_view(kv_b);
  BRAID_CHECK(!is_quantised(w.type));  // Parameter::by_columns
  w.data += first * w.cols * (w.type == WeightType::kF32 ? 4 : 2);
  w.rows = count;
  return w;
}

struct Sequence {
  int64_t row;     // of the batch where its new tokens begin
  int64_t tokens;  // new ones
  int64_t at;      // its first row among those that take the same form
  const LatentView* latents;
  int64_t position() const { return latents->length - tokens; }  // of its first new token
};

// Queries with the key projection absorbed: [N, H, rank + rope], times scale * log2 e.
Tensor absorb_queries(const Context& ctx, const LatentConfig& c, const Tensor& q,
                      const Parameter& kv_b, std::span<const Sequence> sequences, int64_t rows) {
  const int64_t d = c.nope + c.rope, w = c.rank + c.rope;
  Tensor absorbed = Tensor::empty(ctx, {rows, c.heads, w});
  const int64_t wide = rows > kStepTokens ? c.nope * c.rank : 0;  // a head's weights in f32
  ScratchSlots scratch(ctx, c.heads, c.nope * rows + wide);
  parallel_for(ctx, c.heads, 1, [&](int64_t h, int64_t) {
    const ScratchSlots::Lease lease(scratch);
    float* packed = lease.data();  // [N, nope]
    const float factor = c.scale * kLog2E;
    float* to = absorbed.data() + h * w;
    for (const Sequence& s : sequences) {
      for (int64_t t = 0; t < s.tokens; ++t) {
        const float* from = q.data() + ((s.row + t) * c.heads + h) * d;
        for (int64_t i = 0; i < c.nope; ++i) packed[(s.at + t) * c.nope + i] = from[i] * factor;
        for (int64_t i = 0; i < c.rope; ++i)
          to[(s.at + t) * c.heads * w + c.rank + i] = from[c.nope + i] * factor;
      }
    }
    const WeightView keys = weight_rows(kv_b, h * (c.nope + c.dv), c.nope);
    const bool f32 = keys.type == WeightType::kF32;
    if (rows <= kStepTokens) {
      weighted_row_sums(f32 ? KvType::kF32 : KvType::kBF16, keys.data, c.nope, c.rank, rows, packed,
                        c.nope, to, c.heads * w);
      return;
    }
    const float* matrix = reinterpret_cast<const float*>(keys.data);
    if (!f32) {
      float* widened = packed + c.nope * rows;
      widen_bf16(reinterpret_cast<const uint16_t*>(keys.data), c.nope * c.rank, widened);
      matrix = widened;
    }
    gemm_f32(false, false, rows, c.rank, c.nope, packed, c.nope, matrix, c.rank, 0, to,
             c.heads * w);
  });
  ctx.count_product(2.0 * static_cast<double>(rows * c.heads) *
                    static_cast<double>(c.nope * c.rank));
  return absorbed;
}

// Sums of latents by the probabilities, head by head: [H * N, rank].
Tensor attend(const Context& ctx, const LatentConfig& c, const Tensor& absorbed,
              std::span<const Sequence> sequences, int64_t rows) {
  struct Group {  // up to kLatentRows adjacent queries, a query being a token's head
    const Sequence* sequence;
    int64_t first, count;
    int64_t item, blocks;  // partial results
  };
  std::vector<Group> groups;
  std::vector<size_t> group_of;  // of every item
  int64_t floats = 1;
  for (const Sequence& s : sequences) {
    floats = std::max(floats, latent_block_scratch(*s.latents));
    const int64_t queries = s.tokens * c.heads;
    for (int64_t at = 0; at < queries; at += kLatentRows) {
      const int64_t count = std::min(kLatentRows, queries - at);
      const int64_t last = s.position() + (at + count - 1) / c.heads;
      const Group g{&s, at, count, std::ssize(group_of), last / kLatentBlock + 1};
      group_of.resize(group_of.size() + static_cast<size_t>(g.blocks), groups.size());
      groups.push_back(g);
    }
  }
  const int64_t partial = latent_partial_floats(c.rank), w = c.rank + c.rope,
                items = std::ssize(group_of);
  Tensor partials = Tensor::empty(ctx, {items, kLatentRows, partial});
  Tensor sums = Tensor::empty(ctx, {c.heads * rows, c.rank});
  {
    ScratchSlots scratch(ctx, items, floats);
    parallel_for(ctx, items, 1, [&](int64_t i, int64_t) {
      const Group& g = groups[group_of[static_cast<size_t>(i)]];
      const Sequence& s = *g.sequence;
      const ScratchSlots::Lease lease(scratch);
      latent_attention_block(*s.latents, absorbed.data() + (s.at * c.heads + g.first) * w, g.count,
                             s.position(), g.first, c.heads, i - g.item,
                             partials.data() + i * kLatentRows * partial, lease.data());
    });
  }
  AttentionConfig merged;
  merged.head_dim = c.rank;
  parallel_for(ctx, std::ssize(groups), 1, [&](int64_t i, int64_t) {
    const Group& g = groups[static_cast<size_t>(i)];
    for (int64_t r = 0; r < g.count; ++r) {
      const int64_t token = g.sequence->at + (g.first + r) / c.heads, h = (g.first + r) % c.heads;
      attention_decode_merge(merged, 0, partials.data() + (g.item * kLatentRows + r) * partial,
                             g.blocks, kLatentRows * partial,
                             sums.data() + (h * rows + token) * c.rank);
    }
  });
  return sums;
}

void absorbed_form(const Context& ctx, const LatentConfig& c, const Tensor& q,
                   const Parameter& kv_b, std::span<const Sequence> sequences, const Tensor& out) {
  int64_t rows = 0;
  for (const Sequence& s : sequences) {
    rows += s.tokens;
    const double pairs = static_cast<double>(s.tokens * s.position()) +
                         static_cast<double>(s.tokens * (s.tokens + 1)) / 2;
    ctx.count_product(2.0 * pairs * static_cast<double>(c.heads * (2 * c.rank + c.rope)));
  }
  const Tensor absorbed = absorb_queries(ctx, c, q, kv_b, sequences, rows);
  const Tensor sums = attend(ctx, c, absorbed, sequences, rows);
  const Tensor o = Tensor::empty(ctx, {rows, c.heads, c.dv});
  std::vector<WeightJob> jobs;
  for (int64_t h = 0; h < c.heads; ++h) {
    jobs.push_back({weight_rows(kv_b, h * (c.nope + c.dv) + c.nope, c.dv), h * rows, rows,
                    o.data() + h * c.dv, c.heads * c.dv});
  }
  weight_product(ctx, sums.data(), c.rank, jobs);
  if (ctx.dry()) return;
  const int64_t row = c.heads * c.dv;
  for (const Sequence& s : sequences)
    std::copy_n(o.data() + s.at * row, s.tokens * row, out.data() + s.row * row);
}

// Keys and values of positions [begin, begin + count) in tiles, a tile a page.
void expand_piece(const Context& ctx, const LatentConfig& c, const Parameter& kv_b,
                  const LatentView& latents, int64_t begin, int64_t count, const KvLayout& layout,
                  std::byte* tiles) {
  const int64_t w = c.rank + c.rope, per_head = c.nope + c.dv, row = c.heads * per_head;
  const Tensor rows = Tensor::empty(ctx, {count, w}), kv = Tensor::empty(ctx, {count, row});
  parallel_for(ctx, count, kKvTile, [&](int64_t from, int64_t to) {
    unpack_latents(latents.layout, latents.row(begin + from), to - from, rows.data() + from * w);
  });
  weight_product(ctx, count, rows.data(), w, weight_view(kv_b), kv.data(), row);
  parallel_for(ctx, kv_tiles(count) * c.heads, 1, [&](int64_t i, int64_t) {
    const int64_t tile = i / c.heads, h = i % c.heads, first = tile * kKvTile;
    const int64_t some = std::min(kKvTile, count - first);
    std::byte* page = tiles + tile * layout.page(c.heads);
    auto* keys = reinterpret_cast<float*>(page + layout.keys(0, h));
    auto* values = reinterpret_cast<float*>(page + layout.values(0, h));
    if (some < kKvTile)
      std::memset(page + layout.keys(0, h), 0, static_cast<size_t>(layout.head()));
    const float* from = kv.data() + first * row + h * per_head;
    pack_columns(from, row, some, c.nope, 0, keys);
    pack_columns(rows.data() + first * w + c.rank, w, some, c.rope, 0, keys + c.nope * kKvTile);
    pack_rows(from + c.nope, row, some, c.dv, 1.0f, values);
  });
}

// The past is expanded in pieces of fixed absolute positions; what a query has gathered so far is
// carried from one to the next.
void expanded_form(const Context& ctx, const LatentConfig& c, const Tensor& q,
                   const Parameter& kv_b, const Sequence& s, const Tensor& out) {
  const AttentionConfig config = c.expanded();
  const KvLayout layout{KvType::kF32, config.head_dim, c.dv, 1};
  constexpr int64_t kStep = kTilesPerStep * kKvTile;
  const int64_t per_position = c.heads * (2 * c.nope + c.rope + 2 * c.dv);
  const int64_t piece =
      std::clamp<int64_t>(kPieceFloats / per_position / kStep * kStep, kStep, 2048);
  const int64_t length = s.latents->length, d = config.head_dim;
  const int64_t tiles = query_grouping(config).tiles, together = tiles * kQueryTile;
  const int64_t groups = (s.tokens + together - 1) / together, ranges = groups * c.heads;
  const int64_t carry = attention_carry_floats(c.dv);
  ctx.count_product(attention_flops(config, s.position(), s.tokens));
  const Tensor carried = Tensor::empty(ctx, {ranges * tiles, carry});
  const Tensor memory =
      Tensor::empty(ctx, {kv_tiles(std::min(piece, length)), layout.page(c.heads) / 4});
  ScratchSlots scratch(ctx, ranges, attention_scratch(config, KvType::kF32, tiles));
  for (int64_t begin = 0; begin < length; begin += piece) {
    const int64_t count = std::min(piece, length - begin);
    expand_piece(ctx, c, kv_b, *s.latents, begin, count, layout, memory.data<std::byte>());
    std::vector<const std::byte*> pages;
    for (int64_t t = 0; t < kv_tiles(count); ++t)
      pages.push_back(memory.data<std::byte>() + t * layout.page(c.heads));
    const KvView view{pages.data(), begin / kKvTile, begin + count, layout};
    parallel_for(ctx, ranges, 1, [&](int64_t i, int64_t) {
      const int64_t group = groups - 1 - i / c.heads, h = i % c.heads;
      QueryBlock blocks[kMostQueryBlocks];
      size_t used = 0;
      for (int64_t at = group * together; at < std::min(s.tokens, (group + 1) * together);
           at += kQueryTile, ++used) {
        float* state =
            carried.data() + ((group * c.heads + h) * tiles + static_cast<int64_t>(used)) * carry;
        blocks[used] = {h, q.data() + ((s.row + at) * c.heads + h) * d,
                        std::min(kQueryTile, s.tokens - at), s.position() + at, state};
        if (begin == 0) attention_begin(config, blocks[used]);
      }
      const ScratchSlots::Lease lease(scratch);
      attention_piece(config, {blocks, used}, c.heads * d, view, begin / kKvTile,
                      kv_tiles(begin + count), lease.data());
      if (begin + count < length) return;
      for (const QueryBlock& b : std::span(blocks, used)) {
        const int64_t row = s.row + b.position - s.position();
        attention_finish(config, b, out.data() + (row * c.heads + h) * c.dv, c.heads * c.dv,
                         nullptr);
      }
    });
  }
}

}  // namespace

double expanded_flops(const LatentConfig& c, int64_t past, int64_t tokens) {
  return 2.0 * static_cast<double>((past + tokens) * c.rank) *
             static_cast<double>(c.heads * (c.nope + c.dv)) +
         attention_flops(c.expanded(), past, tokens);
}

double absorbed_flops(const LatentConfig& c, int64_t past, int64_t tokens) {
  const double pairs =
      static_cast<double>(tokens * past) + static_cast<double>(tokens * (tokens + 1)) / 2;
  return 2.0 * static_cast<double>(c.heads) *
         (static_cast<double>(tokens * c.rank * (c.nope + c.dv)) +
          pairs * static_cast<double>(2 * c.rank + c.rope));
}

Tensor latent_attention(const Context& ctx, const LatentConfig& c, const Tensor& q,
                        const Parameter& kv_b, std::span<const int64_t> seq_starts,
                        std::span<const LatentView> past) {
  const int64_t tokens = q.size(0);
  BRAID_CHECK(q.contiguous() && q.shape() == (Shape{tokens, c.heads, c.nope + c.rope}));
  BRAID_CHECK(seq_starts.size() == past.size() + 1 && seq_starts.back() == tokens);
  BRAID_CHECK(kv_b.shape() == (Shape{c.heads * (c.nope + c.dv), c.rank}));
  BRAID_CHECK(recording(ctx, {&q}) == nullptr);
  Tensor out = Tensor::empty(ctx, {tokens, c.heads, c.dv});
  std::vector<Sequence> absorbed;
  int64_t rows = 0;
  for (size_t s = 0; s < past.size(); ++s) {
    const int64_t count = seq_starts[s + 1] - seq_starts[s];
    if (count == 0) continue;
    BRAID_CHECK(past[s].length >= count && past[s].layout.rank == c.rank &&
                past[s].layout.rope == c.rope);
    const Sequence sequence{seq_starts[s], count, rows, &past[s]};
    const int64_t before = sequence.position();
    BRAID_CHECK(past[s].chosen == nullptr || count == 1);
    if (count <= kStepTokens ||
        absorbed_flops(c, before, count) <= expanded_flops(c, before, count)) {
      absorbed.push_back(sequence);
      rows += count;
    } else {
      expanded_form(ctx, c, q, kv_b, sequence, out);
    }
  }
  if (!absorbed.empty()) absorbed_form(ctx, c, q, kv_b, absorbed, out);
  return out;
}

}  // namespace braid
