#include "braid/ops/view.h"

#include <cstring>

#include "braid/core/parallel.h"
#include "braid/ops/rows.h"

namespace braid {
namespace {

// x [T, ...] strided in T only, seen as [T, inner...].
Tensor regroup(const Tensor& x, const Shape& shape) {
  if (x.contiguous()) return x.reshape(shape);
  const Rows r = rows_of(x);
  BRAID_CHECK(shape.rank() >= 2 && shape[0] == r.rows && shape.count() == x.count());
  return x.regroup_inner(shape);
}

// The gradient of the whole from those of its column slices; slices without one are zero.
Tensor join_columns(const Context& ctx, const Shape& whole, std::span<const Tensor> grads,
                    const std::vector<int64_t>& widths) {
  Tensor out = Tensor::empty(ctx, whole);
  const int64_t cols = whole[-1];
  parallel_for(ctx, whole.count() / cols, 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = out.data() + t * cols;
      for (size_t i = 0; i < widths.size(); ++i) {
        const size_t bytes = static_cast<size_t>(widths[i]) * sizeof(float);
        if (grads[i].defined()) {
          std::memcpy(row, grads[i].data() + t * widths[i], bytes);
        } else {
          std::memset(row, 0, bytes);
        }
        row += widths[i];
      }
    }
  });
  return out;
}

}  // namespace

Tensor reshape(const Context& ctx, const Tensor& x, Shape shape) {
  Tensor y = regroup(x, shape);
  if (Tape* tape = recording(ctx, {&x})) {
    tape->record(y, [x](Tape& t, const Tensor& dy) { t.add(x, dy.reshape(x.shape())); });
  }
  return y;
}

std::vector<Tensor> split_columns(const Context& ctx, const Tensor& x,
                                  std::initializer_list<int64_t> widths) {
  BRAID_CHECK(x.rank() >= 2);
  std::vector<Tensor> parts;
  int64_t at = 0;
  for (const int64_t w : widths) {
    parts.push_back(x.narrow(x.rank() - 1, at, w));
    at += w;
  }
  BRAID_CHECK(at == x.size(-1));
  if (Tape* tape = recording(ctx, {&x})) {
    std::vector<Tensor*> outputs;
    for (Tensor& p : parts) outputs.push_back(&p);
    tape->record_many(
        outputs, [x, w = std::vector<int64_t>(widths)](Tape& t, std::span<const Tensor> grads) {
          t.add(x, join_columns(t.context(), x.shape(), grads, w));
        });
  }
  return parts;
}

}  // namespace braid
