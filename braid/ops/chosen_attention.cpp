#include "braid/ops/chosen_attention.h"

#include <algorithm>
#include <cstring>

#include "braid/core/parallel.h"
#include "braid/kernels/attention/chosen.h"
#include "braid/kernels/attention/kv_convert.h"
#include "braid/ops/scratch_slots.h"

namespace braid {
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
  double pairs = 0;
  for (const KeyRuns::Run& run : runs.runs) pairs += run.end - run.begin;
  pairs *= static_cast<double>(c.heads / sets);
  ctx.count_product(2 * pairs * static_cast<double>(d + dv));
  const auto lists = std::make_shared<const TileLists>(runs, q_starts);
  Tensor out = Tensor::empty(ctx, {tokens, c.heads, dv});
  const Tensor lse = Tensor::empty(ctx, {c.heads, tokens});
  {
    const Packed kv = pack(ctx, c, k, v, k_starts);
    ScratchSlots scratch(ctx, lists->count() * c.heads, chosen_forward_scratch(c));
    parallel_for(ctx, lists->count() * c.heads, 1, [&](int64_t item, int64_t) {
      const int64_t i = lists->count() - 1 - item / c.heads, h = item % c.heads;
      const TileLists::Tile& t = (*lists)[i];
      const ScratchSlots::Lease lease(scratch);
      chosen_forward_tile(c, h / c.group(), q.data() + (t.row * c.heads + h) * d, c.heads * d,
                          t.rows, kv.views[static_cast<size_t>(t.sequence)],
                          lists->keys(i, h * sets / c.heads),
                          out.data() + (t.row * c.heads + h) * dv, c.heads * dv,
                          lse.data() + h * tokens + t.row, lease.data());
    });
  }
  Tape* tape = recording(ctx, {&q, &k, &v});
  if (tape == nullptr) return out;
  const Tensor kept = out;  // before it gets a slot: values only
  std::vector<int64_t> rows(q_starts.begin(), q_starts.end()),
      keys(k_starts.begin(), k_starts.end());
  tape->record(out, [=](Tape& t, const Tensor& d_out) {
    t.context().count_product(2 * pairs * static_cast<double>(3 * d + 2 * dv));
    Gradients g = backward(t.context(), c, q, k, v, kept, lse, d_out, *lists, sets, rows, keys);
    t.add(q, std::move(g.q));
    t.add(k, std::move(g.k));
    t.add(v, std::move(g.v));
  });
  return out;
}

}  // namespace braid
