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
  float* a;  // [r, r], as are q, p and t
  float* q;
  float* p;
  float* t;
};

Scratch split(float* scratch, int64_t r, int64_t c) {
  float* square = scratch + 2 * r * c;
  return {scratch, scratch + r * c, square, square + r * r, square + 2 * r * r, square + 3 * r * r};
}

// The products of one iteration [r, r], [r, c], each in fixed panels of rows.
class Panels {
 public:
  Panels(const Context& ctx, int64_t r, int64_t c)
      : ctx_(ctx), r_(r), c_(c), panel_(panel_rows(r)) {}
  void gram(const float* x, float* a) const {
    each([&](int64_t begin, int64_t end) { gram_rows(r_, c_, x, begin, end, a); });
    mirror(a);
  }
  void quintic(const Quintic& k, const float* a, float* q) const {
    each([&](int64_t begin, int64_t end) { quintic_rows(r_, k, a, begin, end, q); });
    mirror(q);
  }
  void symmetric(const float* a, const float* b, float* out) const {
    each([&](int64_t begin, int64_t end) { symmetric_product_rows(r_, a, b, begin, end, out); });
    mirror(out);
  }
  void apply(const float* q, const float* x, float* y) const {
    each([&](int64_t begin, int64_t end) {
      gemm_f32(false, false, end - begin, c_, r_, q + begin * r_, r_, x, c_, 0.0f, y + begin * c_,
               c_);
    });
  }

 private:
  template <typename Body>
  void each(Body&& body) const {
    parallel_for(ctx_, r_, panel_, body);
  }
  void mirror(float* a) const {
    each([&](int64_t begin, int64_t end) { mirror_rows(r_, a, begin, end); });
  }
  const Context& ctx_;
  int64_t r_, c_, panel_;
};

// Iterations between two returns from r x r matrices to X. With Q_k = a I + b A_k + c A_k^2, all
// polynomials of A_0 = X X^T that commute, A_{k+1} = Q_k A_k Q_k and X_{k+1} = Q_k ... Q_0 X_0: X
// itself is needed at the end only. Rounding of A grows by up to a^2 an iteration where A is near
// 0, so that five at once cost a digit and three do not (measured on golden/depth/muon_*: 5e-4,
// against 3e-5 here and 2e-5 with one at a time).
constexpr int kSegments[] = {2, 3};
static_assert(kSegments[0] + kSegments[1] == kMuonIterations);

// Whether that pays: 6 r^2 c + 14 r^3 operations instead of 15 r^2 c + 5 r^3.
bool by_gram(int64_t r, int64_t c) { return 4 * c >= 5 * r; }

// p <- Q_{n-1} ... Q_0 for a = A_0. Returns where it lies (s.p, s.q or s.t).
const float* gram_iterations(const Panels& panels, const Quintic* coefficients, int n,
                             const Scratch& s) {
  float *a = s.a, *q = s.q, *p = s.p, *t = s.t;
  for (int k = 0; k < n; ++k) {
    panels.quintic(coefficients[k], a, q);
    if (k + 1 < n) {
      panels.symmetric(a, q, t);
      panels.symmetric(q, t, a);
    }
    if (k == 0) {
      std::swap(p, q);
    } else {
      panels.symmetric(q, p, t);
      std::swap(p, t);
    }
  }
  return p;
}

// X <- the quintic iteration applied to s.x [r, c], r <= c. Returns where the result lies (s.x or
// s.y).
float* iterate(const Context& ctx, int64_t r, int64_t c, const Quintic* coefficients,
               const Scratch& s) {
  const Panels panels(ctx, r, c);
  float *x = s.x, *y = s.y;
  const bool segments = by_gram(r, c);
  for (int done = 0, i = 0; done < kMuonIterations; ++i) {
    const int n = segments ? kSegments[i] : 1;
    panels.gram(x, s.a);
    panels.apply(gram_iterations(panels, coefficients + done, n, s), x, y);
    std::swap(x, y);
    done += n;
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
  const bool segments = by_gram(std::min(rows, cols), std::max(rows, cols));
  return segments ? r * r * (6 * c + 14 * r) : r * r * (15 * c + 5 * r);
}

int64_t muon_scratch_floats(int64_t rows, int64_t cols) {
  const int64_t r = std::min(rows, cols);
  return 2 * rows * cols + 4 * r * r;
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
