#include "braid/ops/depth.h"

#include <algorithm>

#include "braid/core/parallel.h"
#include "braid/kernels/depth/depth.h"
#include "braid/ops/column_sums.h"

namespace braid {
namespace {

constexpr int64_t kStatFloats = sizeof(DepthStat) / sizeof(float);

// Rows per range: about 64k source elements, and at most 64 ranges so that partial sums stay small.
int64_t rows_grain(int64_t rows, int64_t width, int64_t sources) {
  return std::max<int64_t>(
      {1, (1 << 16) / std::max<int64_t>(1, width * sources), (rows + 63) / 64});
}

void fill_product(const Context& ctx, const Tensor& a, const Tensor& b, float* into) {
  parallel_for(ctx, a.count(), a.count(), [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) into[i] = a.data()[i] * b.data()[i];
  });
}

Tensor effective_query(const Context& ctx, const Parameter& query, const Parameter& norm) {
  BRAID_CHECK(query.value.count() == norm.value.count());
  Tensor u = Tensor::empty(ctx, {query.value.count()});
  fill_product(ctx, query.value, norm.value, u.data());
  return u;
}

void check(std::span<const Tensor> sources, int64_t width) {
  BRAID_CHECK(!sources.empty());
  for (const Tensor& v : sources) {
    BRAID_CHECK(v.rank() == 2 && v.contiguous() && v.size(1) == width);
    BRAID_CHECK(v.size(0) == sources[0].size(0));
  }
}

std::vector<const float*> rows_at(std::span<const Tensor> sources, int64_t row) {
  std::vector<const float*> v;
  for (const Tensor& s : sources) v.push_back(s.data() + row * s.size(1));
  return v;
}

DepthRead read_of(const std::vector<const float*>& v, int64_t width, const Tensor& u,
                  const DepthConfig& config) {
  return {v.data(), static_cast<int64_t>(v.size()), width,
          u.data(), static_cast<float>(config.eps), static_cast<float>(config.scale)};
}

DepthStat* stats_at(const Tensor& stats, int64_t row, int64_t sources) {
  return reinterpret_cast<DepthStat*>(stats.data()) + row * sources;
}

}  // namespace

Tensor depth_softmax(const Context& ctx, std::span<const Tensor> sources, Parameter& query,
                     Parameter& norm, const DepthConfig& config) {
  const Tensor u = effective_query(ctx, query, norm);
  check(sources, u.size(0));
  const int64_t rows = sources[0].size(0), width = u.size(0);
  const int64_t count = static_cast<int64_t>(sources.size());
  Tensor h = Tensor::empty(ctx, {rows, width});
  const Tensor stats = Tensor::empty(ctx, {rows, count, kStatFloats});
  parallel_for(ctx, rows, rows_grain(rows, width, count), [&](int64_t begin, int64_t end) {
    const auto v = rows_at(sources, begin);
    depth_softmax_f32(read_of(v, width, u, config), end - begin, h.data() + begin * width,
                      stats_at(stats, begin, count));
  });
  bool wanted = query.grad.defined() || norm.grad.defined();
  for (const Tensor& v : sources) wanted = wanted || v.slot() >= 0;
  if (Tape* tape = recording(ctx, {}, wanted)) {
    tape->record(h, [kept = std::vector<Tensor>(sources.begin(), sources.end()), &query, &norm,
                     config, stats](Tape& t, const Tensor& dh) {
      // A source is read by every later sub-layer: adding to its gradient in place saves a pass
      // over it per read.
      std::vector<bool> want;
      std::vector<Tensor> dv;
      for (const Tensor& v : kept) {
        want.push_back(t.wants(v));
        dv.push_back(t.grad(v));
      }
      const std::vector<Tensor> before = dv;
      depth_softmax_backward(t.context(), kept, query, norm, config, stats, dh, want, dv);
      for (size_t s = 0; s < kept.size(); ++s) {
        if (want[s] && !before[s].defined()) t.add(kept[s], std::move(dv[s]));
      }
    });
  }
  return h;
}

void depth_softmax_backward(const Context& ctx, std::span<const Tensor> sources, Parameter& query,
                            Parameter& norm, const DepthConfig& config, const Tensor& stats,
                            const Tensor& dh, const std::vector<bool>& want,
                            std::vector<Tensor>& dv) {
  const Tensor u = effective_query(ctx, query, norm);
  check(sources, u.size(0));
  const int64_t rows = sources[0].size(0), width = u.size(0);
  const size_t count = sources.size();
  BRAID_CHECK(dh.contiguous() && dh.shape() == sources[0].shape());
  BRAID_CHECK(want.size() == count && dv.size() == count);
  const auto add = std::make_unique<bool[]>(count);
  for (size_t s = 0; s < count; ++s) {
    add[s] = dv[s].defined();
    if (want[s] && !add[s]) dv[s] = Tensor::empty(ctx, sources[s].shape());
  }
  const int64_t grain = rows_grain(rows, width, static_cast<int64_t>(count));
  const ColumnSums sums(ctx, rows, grain, width);
  parallel_for(ctx, rows, grain, [&](int64_t begin, int64_t end) {
    const auto v = rows_at(sources, begin);
    std::vector<float*> into(count, nullptr);
    for (size_t s = 0; s < count; ++s) {
      if (want[s]) into[s] = dv[s].data() + begin * width;
    }
    std::vector<float> scratch(count);
    depth_softmax_backward_f32(read_of(v, width, u, config), end - begin,
                               stats_at(stats, begin, static_cast<int64_t>(count)),
                               dh.data() + begin * width, into.data(), add.get(), sums.range(begin),
                               scratch.data());
  });
  const Tensor du = Tensor::zeros(ctx, {width});
  sums.add_to(ctx, du);
  const auto accumulate = [&](const Parameter& other, const Tensor& grad) {
    if (!grad.defined()) return;
    parallel_for(ctx, width, width, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) grad.data()[i] += other.value.data()[i] * du.data()[i];
    });
  };
  accumulate(norm, query.grad);
  accumulate(query, norm.grad);
}

DepthPartial depth_partial(const Context& ctx, std::span<const Tensor> sources,
                           std::span<const DepthQuery> queries, const DepthConfig& config) {
  const int64_t rows = sources[0].size(0), width = sources[0].size(1);
  const int64_t q = static_cast<int64_t>(queries.size()), s = static_cast<int64_t>(sources.size());
  check(sources, width);
  DepthPartial p{Tensor::empty(ctx, {q, rows}), Tensor::empty(ctx, {q, rows}),
                 Tensor::empty(ctx, {q, rows, width}), Tensor::empty(ctx, {q, width})};
  for (int64_t i = 0; i < q; ++i) {
    const DepthQuery& query = queries[static_cast<size_t>(i)];
    fill_product(ctx, query.query->value, query.norm->value, p.u.data() + i * width);
  }
  parallel_for(ctx, rows, rows_grain(rows, width, s + q), [&](int64_t begin, int64_t end) {
    const auto v = rows_at(sources, begin);
    std::vector<float> scratch(static_cast<size_t>(q * s));
    depth_partial_f32(read_of(v, width, p.u, config), q, end - begin, rows, p.m.data() + begin,
                      p.z.data() + begin, p.sum.data() + begin * width, scratch.data());
  });
  return p;
}

Tensor depth_merge(const Context& ctx, const DepthPartial& partial, int64_t i, const Tensor& p,
                   const DepthConfig& config) {
  const int64_t rows = partial.sum.size(1), width = partial.sum.size(2);
  BRAID_CHECK(!p.defined() || (p.contiguous() && p.shape() == (Shape{rows, width})));
  Tensor h = Tensor::empty(ctx, {rows, width});
  parallel_for(ctx, rows, rows_grain(rows, width, 2), [&](int64_t begin, int64_t end) {
    const int64_t at = i * rows + begin;
    depth_merge_f32(end - begin, width, partial.u.data() + i * width,
                    static_cast<float>(config.eps), static_cast<float>(config.scale),
                    partial.m.data() + at, partial.z.data() + at, partial.sum.data() + at * width,
                    p.defined() ? p.data() + begin * width : nullptr, h.data() + begin * width);
  });
  return h;
}

}  // namespace braid
