#include "braid/ops/cross_entropy.h"

#include <algorithm>

#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/kernels/softmax/cross_entropy.h"
#include "braid/ops/product.h"
#include "braid/ops/rows.h"
#include "braid/ops/weight_product.h"

namespace braid {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 20;  // logits held at once, 4 MiB

int64_t chunk_rows(int64_t vocab) { return std::max<int64_t>(16, kChunkElements / vocab); }

struct Pass {
  const Context& ctx;
  const Tensor& h;
  Parameter& head;
  std::span<const int32_t> targets;
  double softcap, z_coef;
  float scale;  // 0: no gradients
  std::vector<float> nll, lse;
  Tensor dh, dw;

  void run() {
    const Rows r = rows_of(h);
    const int64_t vocab = head.value.size(0), d = head.value.size(1);
    const int64_t chunk = std::min(chunk_rows(vocab), std::max<int64_t>(1, r.rows));
    Tensor z = Tensor::empty(ctx, {chunk, vocab});
    nll.assign(static_cast<size_t>(r.rows), 0.0f);
    lse = nll;
    for (int64_t t = 0; t < r.rows; t += chunk) {
      const int64_t n = std::min(chunk, r.rows - t);
      const float* rows = h.data() + t * r.stride;
      weight_product(ctx, n, rows, r.stride, weight_view(head), z.data(), vocab);
      row_losses(z, t, n);
      if (scale == 0) continue;
      product(ctx, false, false, n, d, vocab, z.data(), vocab, head.value.data(), d, 0,
              dh.data() + t * d, d);
      if (dw.defined())
        product(ctx, true, false, vocab, d, n, z.data(), vocab, rows, r.stride, 1, dw.data(), d);
    }
  }

  void row_losses(Tensor& z, int64_t first, int64_t n) {
    const int64_t vocab = z.size(1);
    parallel_for(ctx, n, 16, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int32_t target = targets[static_cast<size_t>(first + i)];
        float* row = z.data() + i * vocab;
        if (target == kIgnoreTarget) {
          std::fill_n(row, vocab, 0.0f);
          continue;
        }
        const CrossEntropyRow loss = cross_entropy_row_f32(
            row, vocab, target, static_cast<float>(softcap), static_cast<float>(z_coef), scale);
        nll[static_cast<size_t>(first + i)] = loss.nll;
        lse[static_cast<size_t>(first + i)] = loss.lse;
      }
    });
  }
};

void check_targets(std::span<const int32_t> targets, int64_t rows, int64_t vocab) {
  BRAID_CHECK(static_cast<int64_t>(targets.size()) == rows);
  for (const int32_t t : targets) {
    if (t != kIgnoreTarget && (t < 0 || t >= vocab)) {
      throw Error(ErrorKind::kBadInput,
                  format("target {} is outside the vocabulary of {}", t, vocab));
    }
  }
}

// x *= by, skipped for the usual 1.
void scale_in_place(const Context& ctx, Tensor& x, float by) {
  if (by == 1.0f) return;
  parallel_for(ctx, x.count(), 1 << 15, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) x.data()[i] *= by;
  });
}

}  // namespace

LossResult lm_loss(const Context& ctx, const Tensor& h, Parameter& head,
                   std::span<const int32_t> targets, const LossConfig& config) {
  const int64_t rows = h.size(0), vocab = head.value.size(0), d = head.value.size(1);
  check_targets(targets, rows, vocab);
  LossResult result;
  result.targets = rows - std::count(targets.begin(), targets.end(), kIgnoreTarget);
  const double n = static_cast<double>(config.divisor > 0 ? config.divisor
                                                          : std::max<int64_t>(1, result.targets));
  Tape* tape = recording(ctx, {&h}, head.grad.defined());
  Pass pass{ctx,
            h,
            head,
            targets,
            config.softcap,
            config.z_coef,
            tape != nullptr ? static_cast<float>(1.0 / n) : 0.0f,
            {},
            {},
            {},
            {}};
  if (tape != nullptr) {
    pass.dh = Tensor::empty(ctx, {rows, d});
    if (head.grad.defined()) pass.dw = Tensor::zeros(ctx, {vocab, d});
  }
  pass.run();
  double total = 0;
  for (int64_t t = 0; t < rows; ++t) {
    const size_t i = static_cast<size_t>(t);
    result.nll_sum += pass.nll[i];
    total += pass.nll[i] + config.z_coef * static_cast<double>(pass.lse[i]) * pass.lse[i];
  }
  result.loss = Tensor::full(ctx, {1}, static_cast<float>(total / n));
  if (tape != nullptr) {
    tape->record(
        result.loss, [h, &head, dh = pass.dh, dw = pass.dw](Tape& t, const Tensor& seed) mutable {
          const float by = t.context().dry() ? 1.0f : seed.data()[0];
          scale_in_place(t.context(), dh, by);
          if (dw.defined()) {
            parallel_for(t.context(), dw.count(), 1 << 15, [&](int64_t begin, int64_t end) {
              for (int64_t i = begin; i < end; ++i) head.grad.data()[i] += by * dw.data()[i];
            });
          }
          t.add(h, dh.reshape(h.shape()));
        });
  }
  return result;
}

std::vector<float> lm_nll(const Context& ctx, const Tensor& h, Parameter& head,
                          std::span<const int32_t> targets, double softcap) {
  check_targets(targets, h.size(0), head.value.size(0));
  Pass pass{ctx, h, head, targets, softcap, 0, 0, {}, {}, {}, {}};
  pass.run();
  return std::move(pass.nll);
}

}  // namespace braid
