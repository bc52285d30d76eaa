#include "braid/ops/attention.h"

#include <cstring>
#include <vector>

#include "braid/kernels/attention/backward.h"
#include "braid/kernels/attention/decays.h"
#include "braid/kernels/attention/decode.h"
#include "braid/kernels/attention/forward.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/ops/rows.h"
#include "braid/ops/scratch_slots.h"
#include "braid/ops/step.h"

namespace braid {
namespace {

// Queries of all heads, wherever they lie: [T, Hq, d], or [T * Hq, d] with strided rows.
struct Heads {
  float* data;
  int64_t tokens, token_stride, head_stride;
  float* at(int64_t token, int64_t head) const {
    return data + token * token_stride + head * head_stride;
  }
};

Heads heads_of(const Tensor& x, int64_t heads, int64_t d) {
  const Rows r = rows_of(x);
  BRAID_CHECK(x.size(-1) == d);
  if (x.rank() == 3) {
    BRAID_CHECK(x.size(1) == heads);
    return {x.data(), r.rows, r.stride, d};
  }
  BRAID_CHECK(x.rank() == 2 && r.rows % heads == 0);
  return {x.data(), r.rows / heads, heads * r.stride, r.stride};
}

void check(const AttentionConfig& c, int64_t tokens, std::span<const int64_t> seq_starts) {
  BRAID_CHECK(c.kv_heads > 0 && c.heads % c.kv_heads == 0 && c.head_dim > 0 && c.window >= 0 &&
              c.chunk >= 0 && c.prefix >= 0 && (c.prefix == 0 || c.chunk == 0));
  BRAID_CHECK(!seq_starts.empty() && seq_starts.front() == 0 && seq_starts.back() == tokens);
}

int64_t sequences(std::span<const int64_t> seq_starts) {
  return static_cast<int64_t>(seq_starts.size()) - 1;
}

// Work of `per_tile` ranges for each tile of each sequence: which sequence and tile a range is, and
// how many there are.
class TileList {
 public:
  TileList(std::span<const int64_t> seq_starts, int64_t tile) {
    for (int64_t s = 0; s < sequences(seq_starts); ++s) {
      const int64_t length = seq_starts[s + 1] - seq_starts[s];
      first_.push_back(static_cast<int64_t>(tiles_.size()));
      for (int64_t at = 0; at < length; at += tile) {
        tiles_.push_back({s, at, std::min(tile, length - at)});
      }
    }
  }
  struct Tile {
    int64_t sequence, begin, rows;  // begin = row in its sequence
  };
  int64_t count() const { return static_cast<int64_t>(tiles_.size()); }
  const Tile& operator[](int64_t i) const { return tiles_[static_cast<size_t>(i)]; }
  int64_t first(int64_t sequence) const { return first_[static_cast<size_t>(sequence)]; }

 private:
  std::vector<Tile> tiles_;
  std::vector<int64_t> first_;
};

// Keys and values of fresh sequences in the tile layout, a tile a page.
struct PackedKv {
  Tensor memory;
  std::vector<const std::byte*> pages;
  std::vector<KvView> views;
};

PackedKv pack(const Context& ctx, const AttentionConfig& c, const Tensor& k, const Tensor& v,
              std::span<const int64_t> seq_starts, const Tensor& log_forget) {
  const Rows rk = rows_of(k), rv = rows_of(v);
  const TileList list(seq_starts, kKvTile);
  const KvLayout layout{KvType::kF32, c.head_dim, c.values(), 1, c.forgets ? c.heads : 0};
  const int64_t bytes = layout.page(c.kv_heads);
  PackedKv packed{Tensor::empty(ctx, {list.count(), bytes / 4}), {}, {}};
  std::byte* memory = packed.memory.data<std::byte>();
  parallel_for(ctx, list.count(), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const TileList::Tile t = list[i];
      const int64_t row = seq_starts[t.sequence] + t.begin;
      std::byte* tile = memory + i * bytes;
      if (t.rows < kKvTile) std::memset(tile, 0, static_cast<size_t>(bytes));
      const KvRows rows{k.data() + row * rk.stride, rk.stride, v.data() + row * rv.stride,
                        rv.stride};
      pack_kv_rows(layout, c.kv_heads, rows, 0, 0, t.rows, tile);
    }
  });
  // The sums of one head run through its sequence.
  const int64_t sums = c.forgets ? sequences(seq_starts) * c.heads : 0;
  parallel_for(ctx, sums, 1, [&](int64_t begin, int64_t) {
    const int64_t s = begin / c.heads, head = begin % c.heads, ld = rows_of(log_forget).stride;
    double sum = 0;
    for (int64_t i = list.first(s), row = seq_starts[s]; row < seq_starts[s + 1]; ++i) {
      auto* to = reinterpret_cast<double*>(memory + i * bytes + layout.decays(0, head));
      sum = cumulate_decays(log_forget.data() + row * ld + head, ld, list[i].rows, sum, to);
      row += list[i].rows;
    }
  });
  for (int64_t i = 0; i < list.count(); ++i) packed.pages.push_back(memory + i * bytes);
  for (int64_t s = 0; s < sequences(seq_starts); ++s) {
    packed.views.push_back(
        {packed.pages.data() + list.first(s), 0, seq_starts[s + 1] - seq_starts[s], layout});
  }
  return packed;
}

// Sequences of `seq_starts` whose new tokens are the last of their views. Sequences of up to
// kStepTokens tokens are left out when `skip_steps`.
void forward_tiles(const Context& ctx, const AttentionConfig& c, const Heads& q,
                   std::span<const int64_t> seq_starts, std::span<const KvView> kv, bool skip_steps,
                   float* out, float* lse) {
  const QueryGrouping grouping = query_grouping(c);
  const TileList list(seq_starts, grouping.tiles * kQueryTile);
  const int64_t parts = (c.group() + grouping.heads - 1) / grouping.heads;  // of a kv head's heads
  const int64_t per_tile = c.kv_heads * parts, ranges = list.count() * per_tile;
  const int64_t ld_out = c.heads * c.values(), carry = attention_carry_floats(c.values());
  int64_t floats = 1;
  for (const KvView& view : kv)
    floats = std::max(floats, attention_scratch(c, view.layout.type, grouping.blocks()));
  ScratchSlots scratch(ctx, ranges, grouping.blocks() * carry + floats);
  parallel_for(ctx, ranges, 1, [&](int64_t begin, int64_t) {
    // Late tiles have most keys to read: they go first, so that no thread is left with a long one
    // at the end.
    const TileList::Tile t = list[list.count() - 1 - begin / per_tile];
    const int64_t kv_head = begin % per_tile / parts;
    const int64_t first_head = kv_head * c.group() + begin % parts * grouping.heads;
    const int64_t end_head = std::min(first_head + grouping.heads, (kv_head + 1) * c.group());
    const int64_t length = seq_starts[t.sequence + 1] - seq_starts[t.sequence];
    if (skip_steps && length <= kStepTokens) return;
    const int64_t row = seq_starts[t.sequence] + t.begin;
    const KvView& view = kv[t.sequence];
    const int64_t position = view.length - length + t.begin;
    const ScratchSlots::Lease lease(scratch);
    QueryBlock blocks[kMostQueryBlocks];
    int64_t count = 0;
    for (int64_t at = 0; at < t.rows; at += kQueryTile) {
      for (int64_t h = first_head; h < end_head; ++h, ++count) {
        blocks[count] = {h, q.at(row + at, h), std::min(kQueryTile, t.rows - at), position + at,
                         lease.data() + count * carry};
        attention_begin(c, blocks[count]);
      }
    }
    attention_piece(c, {blocks, static_cast<size_t>(count)}, q.token_stride, view,
                    view.first_tile(), kv_tiles(view.length),
                    lease.data() + grouping.blocks() * carry);
    for (const QueryBlock& b : std::span(blocks, static_cast<size_t>(count))) {
      const int64_t at = row + b.position - position;
      attention_finish(c, b, out + at * ld_out + b.head * c.values(), ld_out,
                       lse == nullptr ? nullptr : lse + b.head * q.tokens + at);
    }
  });
}

// Sequences with up to kStepTokens new tokens: each token as if it had come alone.
void forward_steps(const Context& ctx, const AttentionConfig& c, const Heads& q,
                   std::span<const int64_t> seq_starts, std::span<const KvView> kv, float* out) {
  struct Item {
    size_t token;
    int64_t block;
  };
  std::vector<Item> items;
  std::vector<int64_t> first, rows;  // of each token: its first item, its row
  std::vector<KvView> views;         // what it sees
  for (int64_t s = 0; s < sequences(seq_starts); ++s) {
    const int64_t length = seq_starts[s + 1] - seq_starts[s];
    if (length > kStepTokens) continue;
    for (int64_t t = 0; t < length; ++t) {
      first.push_back(static_cast<int64_t>(items.size()));
      rows.push_back(seq_starts[s] + t);
      views.push_back(kv[s]);
      views.back().length += t + 1 - length;
      const DecodeBlocks blocks = decode_blocks(c, views.back().length - 1);
      for (int64_t b = 0; b < blocks.kept; ++b) items.push_back({views.size() - 1, b});
      for (int64_t b = blocks.first; b < blocks.end; ++b) items.push_back({views.size() - 1, b});
    }
  }
  if (rows.empty()) return;
  first.push_back(static_cast<int64_t>(items.size()));
  const int64_t dv = c.values(), partial = decode_partial_floats(dv),
                count = static_cast<int64_t>(items.size());
  const int64_t ranges = count * c.kv_heads;
  Tensor partials = Tensor::empty(ctx, {count, c.heads, partial});
  ScratchSlots scratch(ctx, ranges, decode_scratch(c));
  parallel_for(ctx, ranges, 1, [&](int64_t begin, int64_t) {
    const int64_t i = begin / c.kv_heads;
    const Item item = items[static_cast<size_t>(i)];
    const ScratchSlots::Lease lease(scratch);
    const int64_t kv_head = begin % c.kv_heads, head = kv_head * c.group();
    attention_decode_block(c, kv_head, item.block, q.at(rows[item.token], head), q.head_stride,
                           views[item.token], partials.data() + (i * c.heads + head) * partial,
                           lease.data());
  });
  const int64_t tokens = static_cast<int64_t>(rows.size());
  parallel_for(ctx, tokens * c.heads, 64, [&](int64_t begin, int64_t end) {
    for (int64_t j = begin; j < end; ++j) {
      const int64_t t = j / c.heads, head = j % c.heads;
      attention_decode_merge(c, head, partials.data() + (first[t] * c.heads + head) * partial,
                             first[t + 1] - first[t], c.heads * partial,
                             out + (rows[t] * c.heads + head) * dv);
    }
  });
}

// to[d] = the sum of `count` adjacent rows, in their order.
void sum_rows(const float* from, int64_t count, int64_t d, float* to) {
  std::copy(from, from + d, to);
  for (int64_t r = 1; r < count; ++r) {
    for (int64_t i = 0; i < d; ++i) to[i] += from[r * d + i];
  }
}

// The config with what depends on the operands.
AttentionConfig with_operands(AttentionConfig c, const Parameter* sinks, bool forgets) {
  BRAID_CHECK(sinks == nullptr || sinks->value.count() == c.heads);
  BRAID_CHECK(!forgets || (sinks == nullptr && c.softcap == 0));
  c.sinks = sinks == nullptr ? nullptr : sinks->value.data();
  c.forgets = forgets;
  return c;
}

// The heads of a group share a kv head, whose gradient is the sum of theirs in their order.
void sum_groups(const Context& ctx, const AttentionConfig& c, const Tensor& of_heads, int64_t dim,
                const Tensor& sums) {
  parallel_for(ctx, sums.size(0), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin * c.kv_heads; i < end * c.kv_heads; ++i)
      sum_rows(of_heads.data() + i * c.group() * dim, c.group(), dim, sums.data() + i * dim);
  });
}

// sinks.grad += the shares of the sequences [sequences, heads], in their order.
void add_sink_gradients(const Context& ctx, const Tensor& shares, Parameter& sinks) {
  if (!sinks.grad.defined()) return;
  parallel_for(ctx, sinks.grad.count(), 64, [&](int64_t begin, int64_t end) {
    for (int64_t s = 0; s < shares.size(0); ++s) {
      for (int64_t h = begin; h < end; ++h)
        sinks.grad.data()[h] += shares.data()[s * shares.size(1) + h];
    }
  });
}

}  // namespace

double attention_flops(const AttentionConfig& c, int64_t past, int64_t tokens) {
  // Query at position p of a chunk sees min(p + 1, window) keys, and of those that its window has
  // left, which grow by one with every query, the ones of the prefix.
  const auto in_chunk = [&](double n) {
    const double w = static_cast<double>(c.window);
    if (c.window == 0 || n <= w) return n * (n + 1) / 2;
    const double left = n - w, kept = static_cast<double>(c.prefix), some = std::min(left, kept);
    return w * (w + 1) / 2 + left * w + some * (some + 1) / 2 + (left - some) * kept;
  };
  const auto pairs = [&](int64_t n) {
    if (c.chunk == 0) return in_chunk(static_cast<double>(n));
    return static_cast<double>(n / c.chunk) * in_chunk(static_cast<double>(c.chunk)) +
           in_chunk(static_cast<double>(n % c.chunk));
  };
  return 2.0 * static_cast<double>((c.head_dim + c.values()) * c.heads) *
         (pairs(past + tokens) - pairs(past));
}

Tensor attention(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                 const Tensor& k, const Tensor& v, std::span<const int64_t> seq_starts,
                 Parameter* sinks, const Tensor& log_forget) {
  const AttentionConfig c = with_operands(config, sinks, log_forget.defined());
  const Heads heads = heads_of(q, c.heads, c.head_dim);
  check(c, heads.tokens, seq_starts);
  BRAID_CHECK(k.rank() == 3 && k.size(0) == heads.tokens && k.size(1) == c.kv_heads &&
              k.size(2) == c.head_dim);
  BRAID_CHECK(v.shape() == (Shape{heads.tokens, c.kv_heads, c.values()}));
  BRAID_CHECK(!c.forgets || log_forget.shape() == (Shape{heads.tokens, c.heads}));
  Tape* tape = recording(ctx, {&q, &k, &v, &log_forget}, sinks != nullptr && sinks->grad.defined());
  Tensor out = Tensor::empty(ctx, {heads.tokens, c.heads, c.values()});
  Tensor lse = tape != nullptr ? Tensor::empty(ctx, {c.heads, heads.tokens}) : Tensor();
  {
    const PackedKv kv = pack(ctx, c, k, v, seq_starts, log_forget);
    forward_tiles(ctx, c, heads, seq_starts, kv.views, false, out.data(),
                  tape != nullptr ? lse.data() : nullptr);
  }
  for (int64_t s = 0; s < sequences(seq_starts); ++s) {
    ctx.count_product(attention_flops(c, 0, seq_starts[s + 1] - seq_starts[s]));
  }
  if (tape != nullptr) {
    std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
    tape->record(out, [c, q, k, v, out, lse, sinks, log_forget, starts = std::move(starts)](
                          Tape& t, const Tensor& d_out) {
      AttentionGrads g =
          attention_backward(t.context(), c, q, k, v, out, lse, d_out, starts, sinks, log_forget);
      t.add(q, g.q);
      t.add(k, g.k);
      t.add(v, g.v);
      if (log_forget.defined()) t.add(log_forget, g.log_forget);
    });
  }
  return out;
}

Tensor attention_cached(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                        std::span<const int64_t> seq_starts, std::span<const KvView> past,
                        const Parameter* sinks) {
  const bool forgets = !past.empty() && past[0].layout.decay_heads > 0;
  const AttentionConfig c = with_operands(config, sinks, forgets);
  const Heads heads = heads_of(q, c.heads, c.head_dim);
  check(c, heads.tokens, seq_starts);
  BRAID_CHECK(static_cast<int64_t>(past.size()) == sequences(seq_starts));
  BRAID_CHECK(recording(ctx, {&q}) == nullptr);
  Tensor out = Tensor::empty(ctx, {heads.tokens, c.heads, c.values()});
  bool longer = false;
  for (int64_t s = 0; s < sequences(seq_starts); ++s) {
    const int64_t tokens = seq_starts[s + 1] - seq_starts[s];
    BRAID_CHECK(past[s].length >= tokens && past[s].layout.decay_heads == (forgets ? c.heads : 0));
    longer = longer || tokens > kStepTokens;
    ctx.count_product(attention_flops(c, past[s].length - tokens, tokens));
  }
  if (longer) forward_tiles(ctx, c, heads, seq_starts, past, true, out.data(), nullptr);
  forward_steps(ctx, c, heads, seq_starts, past, out.data());
  return out;
}

AttentionGrads attention_backward(const Context& ctx, const AttentionConfig& config,
                                  const Tensor& q, const Tensor& k, const Tensor& v,
                                  const Tensor& out, const Tensor& lse, const Tensor& d_out,
                                  std::span<const int64_t> seq_starts, Parameter* sinks,
                                  const Tensor& log_forget) {
  const AttentionConfig c = with_operands(config, sinks, log_forget.defined());
  const Heads heads = heads_of(q, c.heads, c.head_dim);
  const int64_t d = c.head_dim, dv = c.values(), tokens = heads.tokens;
  const bool grouped = c.group() > 1;
  AttentionGrads g{Tensor::empty(ctx, q.shape()), Tensor::empty(ctx, k.shape()),
                   Tensor::empty(ctx, v.shape()),
                   c.forgets ? Tensor::empty(ctx, log_forget.shape()) : Tensor()};
  // One share of dk and dv per query head, summed over the group afterwards.
  Tensor d_k = grouped ? Tensor::empty(ctx, {tokens, c.heads, d}) : g.k;
  Tensor d_v = grouped ? Tensor::empty(ctx, {tokens, c.heads, dv}) : g.v;
  const Tensor gates = c.forgets ? packed(ctx, log_forget) : Tensor();
  Tensor d_sinks;
  if (sinks != nullptr) d_sinks = Tensor::empty(ctx, {sequences(seq_starts), c.heads});
  int64_t longest = 0;
  for (int64_t s = 0; s < sequences(seq_starts); ++s) {
    const int64_t length = seq_starts[s + 1] - seq_starts[s];
    longest = std::max(longest, length);
    ctx.count_product(2.5 * attention_flops(c, 0, length));
  }
  const Rows rk = rows_of(k), rv = rows_of(v);
  const int64_t ranges = sequences(seq_starts) * c.heads;
  {
    ScratchSlots scratch(ctx, ranges, attention_backward_scratch(c, longest));
    parallel_for(ctx, ranges, 1, [&](int64_t begin, int64_t) {
      const int64_t s = begin / c.heads, head = begin % c.heads, kv_head = head / c.group();
      const int64_t row = seq_starts[s], at = (row * c.heads + head) * d,
                    at_v = (row * c.heads + head) * dv;
      const ScratchSlots::Lease lease(scratch);
      const AttentionHead h{heads.at(row, head),
                            heads.token_stride,
                            out.data() + at_v,
                            d_out.data() + at_v,
                            c.heads * dv,
                            k.data() + row * rk.stride + kv_head * d,
                            rk.stride,
                            v.data() + row * rv.stride + kv_head * dv,
                            rv.stride,
                            lse.data() + head * tokens + row,
                            g.q.data() + at,
                            c.heads * d,
                            d_k.data() + at,
                            c.heads * d,
                            d_v.data() + at_v,
                            c.heads * dv,
                            sinks == nullptr ? 0 : c.sinks[head],
                            sinks == nullptr ? nullptr : d_sinks.data() + begin,
                            c.forgets ? gates.data() + row * c.heads + head : nullptr,
                            c.forgets ? g.log_forget.data() + row * c.heads + head : nullptr,
                            c.heads};
      attention_backward_head(c, seq_starts[s + 1] - row, h, lease.data());
    });
  }
  if (sinks != nullptr) add_sink_gradients(ctx, d_sinks, *sinks);
  if (!grouped) return g;
  sum_groups(ctx, c, d_k, d, g.k);
  sum_groups(ctx, c, d_v, dv, g.v);
  return g;
}

bool attention_needs_library(const AttentionConfig& config) { return attention_by_library(config); }

}  // namespace braid
