#include "braid/ops/embedding.h"

#include <cstring>

#include "braid/base/format.h"
#include "braid/core/parallel.h"

namespace braid {
namespace {

// Split over columns, not tokens: several tokens may share a row, and each element must be summed
// in token order.
void backward(const Context& ctx, std::span<const int32_t> ids, Parameter& table,
              const Tensor& dy) {
  const int64_t d = table.value.size(1);
  parallel_for(ctx, d, 32, [&](int64_t begin, int64_t end) {
    for (size_t t = 0; t < ids.size(); ++t) {
      float* row = table.grad.data() + ids[t] * d;
      const float* g = dy.data() + static_cast<int64_t>(t) * d;
      for (int64_t i = begin; i < end; ++i) row[i] += g[i];
    }
  });
}

}  // namespace

Tensor embedding(const Context& ctx, std::span<const int32_t> ids, Parameter& table) {
  const int64_t v = table.value.size(0), d = table.value.size(1);
  for (size_t t = 0; t < ids.size(); ++t) {
    if (ids[t] < 0 || ids[t] >= v) {
      throw Error(ErrorKind::kBadInput,
                  format("token {} at position {} is outside the vocabulary of {}", ids[t], t, v));
    }
  }
  Tensor y = Tensor::empty(ctx, {static_cast<int64_t>(ids.size()), d});
  parallel_for(ctx, y.size(0), 64, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      float* row = y.data() + t * d;
      if (table.weight) {
        weight_row(*table.weight, ids[static_cast<size_t>(t)], row);
      } else {
        std::memcpy(row, table.value.data() + ids[static_cast<size_t>(t)] * d,
                    static_cast<size_t>(d) * sizeof(float));
      }
    }
  });
  if (Tape* tape = recording(ctx, {}, table.grad.defined())) {
    tape->record(y, [ids = std::vector<int32_t>(ids.begin(), ids.end()), &table](
                        Tape& t, const Tensor& dy) { backward(t.context(), ids, table, dy); });
  }
  return y;
}

}  // namespace braid
