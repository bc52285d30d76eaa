#include "braid/ops/selected_attention.h"

#include <algorithm>
#include <array>
#include <bit>
#include <functional>
#include <numeric>

#include "braid/core/parallel.h"
#include "braid/kernels/attention/selected.h"

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

namespace {

// Larger numbers have larger keys; -0 and 0 the same one, and NaN the largest, so that lists are as
// long with it as without and it is passed on.
uint32_t order_key(float x) {
  const uint32_t bits = std::bit_cast<uint32_t>(x + 0.0f);
  const uint32_t key = bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
  return x != x ? UINT32_MAX : key;
}

uint64_t order_key(double x) {
  constexpr uint64_t kSign = uint64_t{1} << 63;
  const uint64_t bits = std::bit_cast<uint64_t>(x + 0.0);
  const uint64_t key = (bits & kSign) != 0 ? ~bits : bits | kSign;
  return x != x ? UINT64_MAX : key;
}

// The key of the count-th largest of more than `count` scores. A histogram of the keys' upper bits
// tells where it lies; only what shares them with it is compared.
uint32_t least_of_largest(std::span<const float> scores, int64_t count) {
  constexpr int kShift = 21;
  std::array<int32_t, size_t{1} << (32 - kShift)> counts{};
  for (const float s : scores) ++counts[order_key(s) >> kShift];
  size_t bin = counts.size() - 1;
  for (; counts[bin] < count; --bin) count -= counts[bin];
  std::vector<uint32_t> same;
  same.reserve(static_cast<size_t>(counts[bin]));
  for (const float s : scores) {
    if (order_key(s) >> kShift == bin) same.push_back(order_key(s));
  }
  std::nth_element(same.begin(), same.begin() + count - 1, same.end(), std::greater<>());
  return same[static_cast<size_t>(count - 1)];
}

uint64_t least_of_largest(std::span<const double> scores, int64_t count) {
  std::vector<uint64_t> sorted;
  for (const double s : scores) sorted.push_back(order_key(s));
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
  const auto least = least_of_largest(scores, count);
  int64_t equal = count - std::count_if(scores.begin(), scores.end(),
                                        [least](T s) { return order_key(s) > least; });
  chosen.reserve(static_cast<size_t>(count));
  for (size_t i = 0; i < scores.size(); ++i) {
    const auto key = order_key(scores[i]);
    if (key > least || (key == least && equal-- > 0)) chosen.push_back(static_cast<int32_t>(i));
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
