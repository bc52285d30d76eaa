#include "braid/train/optim_muon.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/kernels/gemm/gemm.h"
#include "braid/kernels/optim/adamw.h"
#include "braid/kernels/optim/muon.h"

namespace braid {
namespace {

// Small enough that the skipped upper triangle pays, large enough for a product to run at full
// rate.
int64_t panel_rows(int64_t r) { return r <= 256 ? 64 : 128; }

void scale(int64_t n, float s, float* x) {
  for (int64_t i = 0; i < n; ++i) x[i] *= s;
}

struct Scratch {
  float* x;  // [r, c], short side first
  float* y;  // [r, c]
  float* a;  // [r, r]
  float* q;  // [r, r]
};

Scratch split(float* scratch, int64_t r, int64_t c) {
  return {scratch, scratch + r * c, scratch + 2 * r * c, scratch + 2 * r * c + r * r};
}

// X <- the quintic iteration applied to s.x [r, c], r <= c. Returns where the result lies (s.x or
// s.y).
float* iterate(const Context& ctx, int64_t r, int64_t c, const Quintic* coefficients,
               const Scratch& s) {
  const int64_t panel = panel_rows(r);
  float *x = s.x, *y = s.y;
  for (int k = 0; k < kMuonIterations; ++k) {
    const auto rows = [&](auto&& body) { parallel_for(ctx, r, panel, body); };
    rows([&](int64_t begin, int64_t end) { gram_rows(r, c, x, begin, end, s.a); });
    rows([&](int64_t begin, int64_t end) { mirror_rows(r, s.a, begin, end); });
    rows([&](int64_t begin, int64_t end) {
      quintic_rows(r, coefficients[k], s.a, begin, end, s.q);
    });
    rows([&](int64_t begin, int64_t end) { mirror_rows(r, s.q, begin, end); });
    rows([&](int64_t begin, int64_t end) {
      gemm_f32(false, false, end - begin, c, r, s.q + begin * r, r, x, c, 0.0f, y + begin * c, c);
    });
    std::swap(x, y);
  }
  return x;
}

// Each row of u [rows, cols] gets the mean row norm |u|_F / sqrt(rows).
void equilibrate_rows(int64_t rows, int64_t cols, float* u) {
  const double mean = std::sqrt(sum_of_squares(rows * cols, u) / static_cast<double>(rows));
  for (int64_t i = 0; i < rows; ++i) {
    const double norm = std::sqrt(sum_of_squares(cols, u + i * cols));
    scale(cols, static_cast<float>(mean / std::max(norm, 1e-6)), u + i * cols);
  }
}

// NorMuon: o is divided by the running RMS of its rows (rows >= cols) or columns, keeping |o|_F.
void reduce_variance(const MuonMatrix& m, double beta2, float* o) {
  const int64_t rows = m.rows, cols = m.cols, n = rows * cols;
  const bool by_row = rows >= cols;
  std::vector<double> mean(static_cast<size_t>(std::max(rows, cols)), 0.0);
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j) {
      const double v = o[i * cols + j];
      mean[static_cast<size_t>(by_row ? i : j)] += v * v;
    }
  }
  const double before = sum_of_squares(n, o);
  std::vector<float> factor(mean.size());
  for (size_t k = 0; k < mean.size(); ++k) {
    const double q = mean[k] / static_cast<double>(std::min(rows, cols));
    m.second_moment[k] += static_cast<float>((1 - beta2) * (q - m.second_moment[k]));
    factor[k] = 1.0f / std::sqrt(std::max(m.second_moment[k], 1e-10f));
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < cols; ++j)
      o[i * cols + j] *= factor[static_cast<size_t>(by_row ? i : j)];
  }
  const double after = sum_of_squares(n, o);
  scale(n, static_cast<float>(std::sqrt(before / std::max(after, 1e-30))), o);
}

}  // namespace

double MuonMatrix::flops() const {
  const double r = static_cast<double>(std::min(rows, cols)),
               c = static_cast<double>(std::max(rows, cols));
  return kMuonIterations * (3 * r * r * c + r * r * r);
}

int64_t muon_scratch_floats(int64_t rows, int64_t cols) {
  const int64_t r = std::min(rows, cols);
  return 2 * rows * cols + 2 * r * r;
}

const float* muon_direction(const Context& ctx, const MuonMatrix& m, const MuonSettings& settings,
                            float grad_scale, float* scratch) {
  const int64_t n = m.rows * m.cols, r = std::min(m.rows, m.cols), c = std::max(m.rows, m.cols);
  const bool turned = m.rows > m.cols;
  const bool nanochat = settings.variant == MuonVariant::kNanochat;
  const Scratch s = split(scratch, r, c);
  float* u = turned ? s.y : s.x;
  muon_momentum(n, grad_scale, static_cast<float>(settings.beta), m.grad, m.momentum, u);
  if (nanochat) equilibrate_rows(m.rows, m.cols, u);
  const double norm = std::sqrt(sum_of_squares(n, u));
  scale(n, static_cast<float>(1.0 / (nanochat ? 1.01 * norm + 1e-6 : norm + 1e-7)), u);
  if (turned) transpose_dense(m.rows, m.cols, s.y, s.x);
  float* x = iterate(ctx, r, c, nanochat ? kPolarExpress : kNewtonSchulz, s);
  if (turned) {
    float* o = x == s.x ? s.y : s.x;
    transpose_dense(m.cols, m.rows, x, o);
    x = o;
  }
  if (nanochat) {
    const double size = std::sqrt(sum_of_squares(n, x));
    scale(n, static_cast<float>(std::sqrt(static_cast<double>(r)) / std::max(size, 1e-30)), x);
    reduce_variance(m, settings.beta2, x);
  }
  return x;
}

double muon_lr_factor(MuonVariant variant, int64_t rows, int64_t cols) {
  const double ratio = static_cast<double>(rows) / static_cast<double>(cols);
  if (variant == MuonVariant::kMoonlight)
    return 0.2 * std::sqrt(static_cast<double>(std::max(rows, cols)));
  return std::sqrt(std::max(1.0, ratio));
}

void muon_apply_direction(const MuonMatrix& m, MuonVariant variant, double lr, double weight_decay,
                          const float* direction) {
  const double step = lr * muon_lr_factor(variant, m.rows, m.cols);
  // Jordan's and Moonlight's decay goes with the plain lr, nanochat's with the scaled one.
  if (variant == MuonVariant::kNanochat) {
    muon_apply_cautious(m.rows * m.cols, static_cast<float>(step),
                        static_cast<float>(step * weight_decay), direction, m.weight);
  } else {
    muon_apply(m.rows * m.cols, static_cast<float>(step), static_cast<float>(lr * weight_decay),
               direction, m.weight);
  }
}

}  // namespace braid
