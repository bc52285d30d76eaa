#include "braid/ops/chosen_attention.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <numeric>

#include "braid/core/parallel.h"
#include "braid/kernels/attention/chosen.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/ops/attention.h"
#include "braid/ops/scratch_slots.h"
#include "braid/ops/step.h"

namespace braid {

void append_runs(const KeyRuns& more, KeyRuns& to) {
  if (to.starts.empty()) to.starts.push_back(0);
  BRAID_CHECK(to.starts.size() == 1 || to.sets == more.sets);
  to.sets = more.sets;
  const int64_t before = std::ssize(to.runs);
  to.runs.insert(to.runs.end(), more.runs.begin(), more.runs.end());
  for (size_t i = 1; i < more.starts.size(); ++i) to.starts.push_back(before + more.starts[i]);
}

namespace {

constexpr int64_t kTile = kKvTile;

// The tiles of keys of every tile of queries and set, and where the tiles of each sequence begin.
class TileLists {
 public:
  TileLists(const KeyRuns& runs, std::span<const int64_t> q_starts) : sets_(runs.sets) {
    std::vector<size_t> first = {0};
    for (size_t s = 0; s + 1 < q_starts.size(); ++s) {
      begin_.push_back(std::ssize(tiles_of_sequence_));
      for (int64_t at = q_starts[s]; at < q_starts[s + 1]; at += kTile) {
        tiles_of_sequence_.push_back(
            {static_cast<int64_t>(s), at, std::min(kTile, q_starts[s + 1] - at)});
        for (int64_t set = 0; set < sets_; ++set) {
          add(runs, at, tiles_of_sequence_.back().rows, set);
          first.push_back(tiles_.size());
        }
      }
    }
    begin_.push_back(std::ssize(tiles_of_sequence_));
    for (size_t i = 0; i + 1 < first.size(); ++i) {
      keys_.push_back({tiles_.data() + first[i], seen_.data() + first[i] * kTile,
                       static_cast<int64_t>(first[i + 1] - first[i])});
    }
  }
  TileLists(const TileLists&) = delete;  // keys_ points into the vectors
  TileLists& operator=(const TileLists&) = delete;

  struct Tile {
    int64_t sequence, row, rows;  // row of the batch
  };
  int64_t count() const { return std::ssize(tiles_of_sequence_); }
  const Tile& operator[](int64_t i) const { return tiles_of_sequence_[static_cast<size_t>(i)]; }
  int64_t first(int64_t sequence) const { return begin_[static_cast<size_t>(sequence)]; }
  const ChosenKeys& keys(int64_t tile, int64_t set) const {
    return keys_[static_cast<size_t>(tile * sets_ + set)];
  }

 private:
  // Of `rows` queries from row `at` on: a mark for every tile that one of them sees, then the tiles
  // in order with everybody's bits.
  void add(const KeyRuns& runs, int64_t at, int64_t rows, int64_t set) {
    const auto for_runs = [&](auto body) {
      for (int64_t r = 0; r < rows; ++r) {
        const size_t list = static_cast<size_t>((at + r) * sets_ + set);
        for (int64_t i = runs.starts[list]; i < runs.starts[list + 1]; ++i) {
          const KeyRuns::Run run = runs.runs[static_cast<size_t>(i)];
          for (int64_t p = run.begin; p < run.end;) {
            const int64_t tile = p / kTile, end = std::min<int64_t>(run.end, (tile + 1) * kTile);
            body(r, tile, ~uint64_t{0} >> (kTile - (end - p)) << p % kTile);
            p = end;
          }
        }
      }
    };
    place_.clear();
    for_runs([&](int64_t, int64_t tile, uint64_t) {
      if (tile >= std::ssize(place_)) place_.resize(static_cast<size_t>(tile) + 1, -1);
      place_[static_cast<size_t>(tile)] = 0;
    });
    for (size_t tile = 0; tile < place_.size(); ++tile) {
      if (place_[tile] < 0) continue;
      place_[tile] = std::ssize(tiles_);
      tiles_.push_back(static_cast<int32_t>(tile));
    }
    seen_.resize(tiles_.size() * kTile, 0);
    for_runs([&](int64_t r, int64_t tile, uint64_t bits) {
      seen_[static_cast<size_t>(place_[static_cast<size_t>(tile)] * kTile + r)] |= bits;
    });
  }

  int64_t sets_;
  std::vector<Tile> tiles_of_sequence_;
  std::vector<int64_t> begin_;  // of each sequence, and the end
  std::vector<int32_t> tiles_;
  std::vector<uint64_t> seen_;
  std::vector<ChosenKeys> keys_;
  std::vector<int64_t> place_;
};

// Keys and values of every sequence in the tile layout, a tile a page.
struct Packed {
  Tensor memory;
  std::vector<const std::byte*> pages;
  std::vector<KvView> views;
};

Packed pack(const Context& ctx, const AttentionConfig& c, const Tensor& k, const Tensor& v,
            std::span<const int64_t> starts) {
  const KvLayout layout{KvType::kF32, c.head_dim, c.values(), 1, 0};
  struct Part {
    int64_t row, rows;
  };
  std::vector<Part> parts;
  std::vector<size_t> first;
  for (size_t s = 0; s + 1 < starts.size(); ++s) {
    first.push_back(parts.size());
    for (int64_t at = starts[s]; at < starts[s + 1]; at += kTile)
      parts.push_back({at, std::min(kTile, starts[s + 1] - at)});
  }
  const int64_t bytes = layout.page(c.kv_heads), count = std::ssize(parts);
  const int64_t ld_k = c.kv_heads * c.head_dim, ld_v = c.kv_heads * c.values();
  Packed packed{Tensor::empty(ctx, {std::max<int64_t>(1, count), bytes / 4}), {}, {}};
  std::byte* memory = packed.memory.data<std::byte>();
  parallel_for(ctx, count, 1, [&](int64_t i, int64_t) {
    const Part part = parts[static_cast<size_t>(i)];
    if (part.rows < kTile) std::memset(memory + i * bytes, 0, static_cast<size_t>(bytes));
    pack_kv_rows(layout, c.kv_heads,
                 {k.data() + part.row * ld_k, ld_k, v.data() + part.row * ld_v, ld_v}, 0, 0,
                 part.rows, memory + i * bytes);
  });
  for (int64_t i = 0; i < count; ++i) packed.pages.push_back(memory + i * bytes);
  for (size_t s = 0; s + 1 < starts.size(); ++s)
    packed.views.push_back({packed.pages.data() + first[s], 0, starts[s + 1] - starts[s], layout});
  return packed;
}

// Views of the tiles that hold chosen positions, one for every token and set.
class ChosenTiles {
 public:
  ChosenTiles(const KvView& kv, int64_t kv_heads, const KeyRuns& runs)
      : layout_{kv.layout.type, kv.layout.d, kv.layout.dv, 1, 0} {
    BRAID_CHECK(kv.layout.tiles_per_page == 1 && kv.layout.decay_heads == 0 && kv.first_page == 0);
    const int64_t per_head = runs.sets / kv_heads;
    for (size_t list = 0; list + 1 < runs.starts.size(); ++list) {
      first_.push_back(pages_.size());
      const int64_t kv_head = static_cast<int64_t>(list) % runs.sets / per_head;
      int64_t tile = -1;  // the last one added
      for (int64_t r = runs.starts[list]; r < runs.starts[list + 1]; ++r)
        tile = add(kv, kv_head, runs.runs[static_cast<size_t>(r)], tile);
      BRAID_CHECK(pages_.size() > first_.back());
    }
    first_.push_back(pages_.size());
  }
  std::vector<KvView> views() const {
    std::vector<KvView> views;
    for (size_t i = 0; i + 1 < first_.size(); ++i) {
      const int64_t tiles = static_cast<int64_t>(first_[i + 1] - first_[i]);
      const int64_t last = std::bit_width(seen_[first_[i + 1] - 1]);
      views.push_back({.pages = pages_.data() + first_[i],
                       .length = (tiles - 1) * kKvTile + last,
                       .layout = layout_,
                       .seen = seen_.data() + first_[i]});
    }
    return views;
  }

 private:
  int64_t add(const KvView& kv, int64_t kv_head, KeyRuns::Run run, int64_t tile) {
    for (int64_t at = run.begin; at < run.end;) {
      if (at / kKvTile != tile) {
        tile = at / kKvTile;
        pages_.push_back(kv.pages[tile] + kv_head * layout_.head());
        seen_.push_back(0);
      }
      const int64_t end = std::min<int64_t>(run.end, (tile + 1) * kKvTile);
      seen_.back() |= ~uint64_t{0} >> (kKvTile - (end - at)) << at % kKvTile;
      at = end;
    }
    return tile;
  }

  KvLayout layout_;
  std::vector<const std::byte*> pages_;
  std::vector<uint64_t> seen_;
  std::vector<size_t> first_;  // of each view, and the end
};

// Queries of all tiles of `lists`; lse [H, T] may be undefined.
void forward_tiles(const Context& ctx, const AttentionConfig& c, const Tensor& q,
                   const TileLists& lists, int64_t sets, std::span<const KvView> kv,
                   const Tensor& out, const Tensor& lse) {
  const int64_t tokens = q.size(0), d = c.head_dim, dv = c.values(),
                items = lists.count() * c.heads;
  const KvType type = kv.empty() ? KvType::kF32 : kv[0].layout.type;
  ScratchSlots scratch(ctx, items, chosen_forward_scratch(c, type));
  parallel_for(ctx, items, 1, [&](int64_t item, int64_t) {
    const int64_t i = lists.count() - 1 - item / c.heads, h = item % c.heads;
    const TileLists::Tile& t = lists[i];
    const ScratchSlots::Lease lease(scratch);
    chosen_forward_tile(c, h / c.group(), q.data() + (t.row * c.heads + h) * d, c.heads * d, t.rows,
                        kv[static_cast<size_t>(t.sequence)], lists.keys(i, h * sets / c.heads),
                        out.data() + (t.row * c.heads + h) * dv, c.heads * dv,
                        lse.defined() ? lse.data() + h * tokens + t.row : nullptr, lease.data());
  });
}

// 2 (d + dv) for every pair of a query head and a key.
double forward_flops(const AttentionConfig& c, const KeyRuns& runs) {
  double pairs = 0;
  for (const KeyRuns::Run& run : runs.runs) pairs += run.end - run.begin;
  return 2 * pairs * static_cast<double>(c.heads / runs.sets * (c.head_dim + c.values()));
}

struct Gradients {
  Tensor q, k, v;
};

// A kv head of a sequence is one task: its queries add into the same keys, in order.
Gradients backward(const Context& ctx, const AttentionConfig& c, const Tensor& q, const Tensor& k,
                   const Tensor& v, const Tensor& out, const Tensor& lse, const Tensor& d_out,
                   const TileLists& lists, int64_t sets, std::span<const int64_t> q_starts,
                   std::span<const int64_t> k_starts) {
  const int64_t d = c.head_dim, dv = c.values(), group = c.group(), tokens = q.size(0);
  Gradients g{Tensor::zeros(ctx, q.shape()), Tensor::zeros(ctx, k.shape()),
              Tensor::zeros(ctx, v.shape())};
  int64_t most = 0;
  for (size_t s = 0; s + 1 < k_starts.size(); ++s)
    most = std::max(most, k_starts[s + 1] - k_starts[s]);
  const int64_t tasks = (std::ssize(q_starts) - 1) * c.kv_heads;
  ScratchSlots scratch(ctx, tasks, chosen_backward_scratch(c, most));
  parallel_for(ctx, tasks, 1, [&](int64_t task, int64_t) {
    const int64_t s = task / c.kv_heads, kv = task % c.kv_heads;
    const int64_t row = q_starts[static_cast<size_t>(s)], key = k_starts[static_cast<size_t>(s)];
    const int64_t length = q_starts[static_cast<size_t>(s) + 1] - row,
                  count = k_starts[static_cast<size_t>(s) + 1] - key;
    if (length == 0 || count == 0) return;
    std::vector<ChosenHead> heads;
    std::vector<ChosenKeys> keys;
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      const int64_t at = row * c.heads + h;
      heads.push_back({q.data() + at * d, c.heads * d, out.data() + at * dv, d_out.data() + at * dv,
                       c.heads * dv, lse.data() + h * tokens + row, g.q.data() + at * d});
    }
    for (int64_t i = lists.first(s); i < lists.first(s + 1); ++i) {
      for (int64_t h = kv * group; h < (kv + 1) * group; ++h)
        keys.push_back(lists.keys(i, h * sets / c.heads));
    }
    const ScratchSlots::Lease lease(scratch);
    const int64_t at_k = (key * c.kv_heads + kv) * d, at_v = (key * c.kv_heads + kv) * dv;
    chosen_backward(c, length, count, k.data() + at_k, c.kv_heads * d, v.data() + at_v,
                    c.kv_heads * dv, heads.data(), keys.data(), g.k.data() + at_k,
                    g.v.data() + at_v, lease.data());
  });
  return g;
}

}  // namespace

Tensor chosen_attention(const Context& ctx, const AttentionConfig& c, const Tensor& q,
                        const Tensor& k, const Tensor& v, const KeyRuns& runs,
                        std::span<const int64_t> q_starts, std::span<const int64_t> k_starts) {
  const int64_t tokens = q.size(0), d = c.head_dim, dv = c.values(), sets = runs.sets;
  BRAID_CHECK(q.contiguous() && k.contiguous() && v.contiguous() && c.heads % sets == 0);
  BRAID_CHECK(q.shape() == (Shape{tokens, c.heads, d}) && k.size(1) == c.kv_heads &&
              v.shape() == (Shape{k.size(0), c.kv_heads, dv}));
  BRAID_CHECK(std::ssize(runs.starts) == tokens * sets + 1 && q_starts.size() == k_starts.size());
  BRAID_CHECK(c.window == 0 && c.chunk == 0 && c.softcap == 0 && c.sinks == nullptr);
  const double flops = forward_flops(c, runs);
  ctx.count_product(flops);
  const auto lists = std::make_shared<const TileLists>(runs, q_starts);
  Tensor out = Tensor::empty(ctx, {tokens, c.heads, dv});
  const Tensor lse = Tensor::empty(ctx, {c.heads, tokens});
  {
    const Packed kv = pack(ctx, c, k, v, k_starts);
    forward_tiles(ctx, c, q, *lists, sets, kv.views, out, lse);
  }
  Tape* tape = recording(ctx, {&q, &k, &v});
  if (tape == nullptr) return out;
  const Tensor kept = out;  // before it gets a slot: values only
  std::vector<int64_t> rows(q_starts.begin(), q_starts.end()),
      keys(k_starts.begin(), k_starts.end());
  tape->record(out, [=](Tape& t, const Tensor& d_out) {
    t.context().count_product(flops * static_cast<double>(3 * d + 2 * dv) /
                              static_cast<double>(d + dv));
    Gradients g = backward(t.context(), c, q, k, v, kept, lse, d_out, *lists, sets, rows, keys);
    t.add(q, std::move(g.q));
    t.add(k, std::move(g.k));
    t.add(v, std::move(g.v));
  });
  return out;
}

Tensor chosen_attention_kept(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                             const KvView& kv, const KeyRuns& runs) {
  const int64_t n = q.size(0), sets = runs.sets;
  BRAID_CHECK(q.contiguous() && sets % config.kv_heads == 0 && config.heads % sets == 0);
  BRAID_CHECK(std::ssize(runs.starts) == n * sets + 1 && config.window == 0);
  const bool blind =
      std::adjacent_find(runs.starts.begin(), runs.starts.end()) != runs.starts.end();
  if (n > kStepTokens || blind) {
    ctx.count_product(forward_flops(config, runs));
    Tensor out = Tensor::empty(ctx, {n, config.heads, config.values()});
    const std::vector<int64_t> starts = {0, n};
    forward_tiles(ctx, config, q, TileLists(runs, starts), sets, {&kv, 1}, out, {});
    return out;
  }
  const ChosenTiles tiles(kv, config.kv_heads, runs);
  AttentionConfig c = config;  // of the heads that share a list
  c.heads = config.heads / sets;
  c.kv_heads = 1;
  std::vector<int64_t> each(static_cast<size_t>(n * sets) + 1);  // a sequence of its own
  std::iota(each.begin(), each.end(), 0);
  const Tensor o =
      attention_cached(ctx, c, q.reshape({n * sets, c.heads, c.head_dim}), each, tiles.views());
  return o.reshape({n, config.heads, config.values()});
}

}  // namespace braid
