#include "braid/ops/selected_attention.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <numeric>

#include "braid/core/parallel.h"
#include "braid/kernels/attention/selected.h"
#include "braid/ops/attention.h"

namespace braid {
namespace {

constexpr int64_t kTokens = 16;  // of a range

struct Sizes {
  int64_t tokens, heads, kv_heads, d, dv;
};

SelectedKeys keys_of(const Sizes& n, const KeySelection& selection, const Tensor& k,
                     const Tensor& v, int64_t token, int64_t head) {
  const std::span<const int32_t> list = selection.of(token, head * selection.sets / n.heads);
  const int64_t kv = head / (n.heads / n.kv_heads);
  return {list.data(),
          std::ssize(list),
          k.data() + kv * n.d,
          n.kv_heads * n.d,
          v.data() + kv * n.dv,
          n.kv_heads * n.dv,
          n.d,
          n.dv};
}

// Where the probabilities of (token, head) lie: lists in order, each once for every head of its
// set.
int64_t place(const KeySelection& s, int64_t heads, int64_t token, int64_t head) {
  const int64_t share = heads / s.sets;
  const size_t i = static_cast<size_t>(token * s.sets + head / share);
  return s.starts[i] * share + head % share * (s.starts[i + 1] - s.starts[i]);
}

}  // namespace

Tensor selected_attention(const Context& ctx, const Tensor& q, const Tensor& k, const Tensor& v,
                          double scale, std::shared_ptr<const KeySelection> selection,
                          std::span<const int64_t> seq_starts) {
  const Sizes n{q.size(0), q.size(1), k.size(1), q.size(2), v.size(2)};
  BRAID_CHECK(q.contiguous() && k.contiguous() && v.contiguous() && n.heads % selection->sets == 0);
  BRAID_CHECK(ctx.dry() || std::ssize(selection->starts) == n.tokens * selection->sets + 1);
  const int64_t pairs =
      selection->starts.empty() ? 0 : selection->starts.back() * (n.heads / selection->sets);
  ctx.count_product(2.0 * static_cast<double>(pairs * (n.d + n.dv)));
  Tensor out = Tensor::empty(ctx, {n.tokens, n.heads, n.dv});
  const Tensor p = Tensor::empty(ctx, {std::max<int64_t>(1, pairs)});
  const float factor = static_cast<float>(scale);
  parallel_for(ctx, n.tokens, kTokens, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t h = 0; h < n.heads; ++h) {
        const int64_t at = t * n.heads + h;
        selected_attention_f32(keys_of(n, *selection, k, v, t, h), q.data() + at * n.d, factor,
                               p.data() + place(*selection, n.heads, t, h), out.data() + at * n.dv);
      }
    }
  });
  Tape* tape = recording(ctx, {&q, &k, &v});
  if (tape == nullptr) return out;
  const Tensor kept = out;  // before it gets a slot: values only
  std::vector<int64_t> starts(seq_starts.begin(), seq_starts.end());
  tape->record(out, [=, starts = std::move(starts)](Tape& t, const Tensor& d_out) {
    const Context& c = t.context();
    Tensor dq = Tensor::empty(c, q.shape()), dk = Tensor::zeros(c, k.shape()),
           dv = Tensor::zeros(c, v.shape());
    c.count_product(2.0 * static_cast<double>(pairs * (3 * n.d + 2 * n.dv)));
    // A key head of a sequence is one task: its queries add into the same keys, in order.
    parallel_for(c, (std::ssize(starts) - 1) * n.kv_heads, 1, [&](int64_t task, int64_t) {
      const int64_t s = task / n.kv_heads, kv = task % n.kv_heads, share = n.heads / n.kv_heads;
      std::vector<float> ds;
      for (int64_t row = starts[static_cast<size_t>(s)]; row < starts[static_cast<size_t>(s) + 1];
           ++row) {
        for (int64_t h = kv * share; h < (kv + 1) * share; ++h) {
          const int64_t at = row * n.heads + h;
          const SelectedKeys keys = keys_of(n, *selection, k, v, row, h);
          ds.resize(static_cast<size_t>(keys.count));
          selected_attention_backward_f32(
              keys, q.data() + at * n.d, factor, p.data() + place(*selection, n.heads, row, h),
              kept.data() + at * n.dv, d_out.data() + at * n.dv, dq.data() + at * n.d,
              dk.data() + kv * n.d, n.kv_heads * n.d, dv.data() + kv * n.dv, n.kv_heads * n.dv,
              ds.data());
        }
      }
    });
    t.add(q, std::move(dq));
    t.add(k, std::move(dk));
    t.add(v, std::move(dv));
  });
  return out;
}

void append_runs(const KeyRuns& more, KeyRuns& to) {
  if (to.starts.empty()) to.starts.push_back(0);
  BRAID_CHECK(to.starts.size() == 1 || to.sets == more.sets);
  to.sets = more.sets;
  const int64_t before = std::ssize(to.runs);
  to.runs.insert(to.runs.end(), more.runs.begin(), more.runs.end());
  for (size_t i = 1; i < more.starts.size(); ++i) to.starts.push_back(before + more.starts[i]);
}

namespace {

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

// 0, 1, ..., n: every token a sequence of its own.
std::vector<int64_t> each_alone(int64_t n) {
  std::vector<int64_t> starts(static_cast<size_t>(n) + 1);
  std::iota(starts.begin(), starts.end(), 0);
  return starts;
}

}  // namespace

Tensor selected_attention_kept(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                               const KvView& kv, const KeyRuns& runs) {
  const int64_t n = q.size(0), sets = runs.sets;
  BRAID_CHECK(q.contiguous() && sets % config.kv_heads == 0 && config.heads % sets == 0);
  BRAID_CHECK(std::ssize(runs.starts) == n * sets + 1 && config.window == 0);
  const ChosenTiles tiles(kv, config.kv_heads, runs);
  AttentionConfig c = config;  // of the heads that share a list
  c.heads = config.heads / sets;
  c.kv_heads = 1;
  const Tensor o = attention_cached(ctx, c, q.reshape({n * sets, c.heads, c.head_dim}),
                                    each_alone(n * sets), tiles.views());
  return o.reshape({n, config.heads, config.values()});
}

Tensor attention_of_each(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                         const KvView& kv, std::span<const int64_t> lengths) {
  std::vector<KvView> views(lengths.size(), kv);
  for (size_t i = 0; i < lengths.size(); ++i) views[i].length = lengths[i];
  return attention_cached(ctx, config, q, each_alone(std::ssize(lengths)), views);
}

namespace {

// Larger numbers have larger keys; -0 and 0 the same one.
uint32_t order_key(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}

// The count-th largest of more than `count` scores. A histogram of the keys' upper bits tells where
// it lies; only what shares them with it is compared.
float least_of_largest(std::span<const float> scores, int64_t count) {
  constexpr int kShift = 21;
  std::array<int32_t, size_t{1} << (32 - kShift)> counts{};
  for (const float s : scores) ++counts[order_key(s) >> kShift];
  size_t bin = counts.size() - 1;
  for (; counts[bin] < count; --bin) count -= counts[bin];
  std::vector<float> same;
  same.reserve(static_cast<size_t>(counts[bin]));
  for (const float s : scores) {
    if (order_key(s) >> kShift == bin) same.push_back(s);
  }
  std::nth_element(same.begin(), same.begin() + count - 1, same.end(), std::greater<>());
  return same[static_cast<size_t>(count - 1)];
}

double least_of_largest(std::span<const double> scores, int64_t count) {
  std::vector<double> sorted(scores.begin(), scores.end());
  std::nth_element(sorted.begin(), sorted.begin() + count - 1, sorted.end(), std::greater<>());
  return sorted[static_cast<size_t>(count - 1)];
}

template <typename T>
Chosen largest_of(std::span<const T> scores, int64_t count) {
  Chosen chosen;
  if (std::ssize(scores) <= count) {
    chosen.resize(scores.size());
    std::iota(chosen.begin(), chosen.end(), 0);
    return chosen;
  }
  if (count <= 0) return chosen;
  const T least = least_of_largest(scores, count);
  int64_t equal =
      count - std::count_if(scores.begin(), scores.end(), [least](T s) { return s > least; });
  chosen.reserve(static_cast<size_t>(count));
  for (size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] > least || (scores[i] == least && equal-- > 0))
      chosen.push_back(static_cast<int32_t>(i));
  }
  return chosen;
}

}  // namespace

std::vector<int32_t> largest(std::span<const float> scores, int64_t count) {
  return largest_of(scores, count);
}
std::vector<int32_t> largest(std::span<const double> scores, int64_t count) {
  return largest_of(scores, count);
}

}  // namespace braid
