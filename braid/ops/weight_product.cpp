#include "braid/ops/weight_product.h"

#include <algorithm>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/kernels/gemm/gemm.h"
#include "braid/ops/product.h"

namespace braid {
namespace {

constexpr int64_t kStreams = 16;        // ranges of a product that is bound by reading weights
constexpr int64_t kMinStreamRows = 16;  // of a matrix in one range: shorter streams are slower
constexpr int64_t kManyJobs = 4;        // from more jobs than this on, one job is not split finely
constexpr int64_t kTileRows = 256, kTileCols = 512;

struct Task {
  const WeightJob* job;
  int64_t row, rows;  // of the job
  int64_t col, cols;  // outputs
};

bool streams(const WeightJob& job) { return job.rows <= kGemvRows; }

int64_t stream_cols(std::span<const WeightJob> jobs) {
  int64_t total = 0;
  for (const WeightJob& j : jobs) total += j.weight.rows;
  return std::max(kMinStreamRows, (grain_for(total, kStreams) + 15) / 16 * 16);
}

std::vector<Task> tasks_of(std::span<const WeightJob> jobs) {
  std::vector<Task> tasks;
  const int64_t stream = stream_cols(jobs);
  for (const WeightJob& j : jobs) {
    ProductTile t{j.rows, stream};
    if (!streams(j)) {
      t = std::ssize(jobs) > kManyJobs ? ProductTile{kTileRows, kTileCols}
                                       : product_tile(j.rows, j.weight.rows, j.weight.cols);
    }
    if (j.weight.type == WeightType::kBF16) t.n = std::min(t.n, kTileCols);  // widened in scratch
    for (int64_t r = 0; r < j.rows; r += t.m) {
      for (int64_t c = 0; c < j.weight.rows; c += t.n) {
        tasks.push_back({&j, r, std::min(t.m, j.rows - r), c, std::min(t.n, j.weight.rows - c)});
      }
    }
  }
  return tasks;
}

// A thread's buffer, kept for the next product.
float* scratch(int64_t count) {
  thread_local std::vector<float> buffer;
  if (std::ssize(buffer) < count) buffer.resize(static_cast<size_t>(count));
  return buffer.data();
}

void run(const Task& t, const float* x, int64_t ldx) {
  const WeightJob& j = *t.job;
  const int64_t k = j.weight.cols;
  const float* rows = x + (j.row + t.row) * ldx;
  float* y = j.y + t.row * j.ldy;
  const bool wide = j.weight.type == WeightType::kF32;
  const float* f32 = reinterpret_cast<const float*>(j.weight.data);
  const uint16_t* bf16 = reinterpret_cast<const uint16_t*>(j.weight.data);
  if (streams(j)) {
    for (int64_t i = 0; i < t.rows; ++i) {
      if (wide) {
        gemv_f32(f32, k, k, rows + i * ldx, y + i * j.ldy, t.col, t.col + t.cols);
      } else {
        gemv_bf16(bf16, k, k, rows + i * ldx, y + i * j.ldy, t.col, t.col + t.cols);
      }
    }
    return;
  }
  const float* w = f32 + t.col * k;
  if (!wide) {
    float* widened = scratch(t.cols * k);
    widen_bf16(bf16 + t.col * k, t.cols * k, widened);
    w = widened;
  }
  gemm_f32(false, true, t.rows, t.cols, k, rows, ldx, w, k, 0, y + t.col, j.ldy);
}

}  // namespace

void weight_product(const Context& ctx, const float* x, int64_t ldx,
                    std::span<const WeightJob> jobs) {
  for (const WeightJob& j : jobs) {
    ctx.count_product(2.0 * static_cast<double>(j.rows) * static_cast<double>(j.weight.rows) *
                      static_cast<double>(j.weight.cols));
    BRAID_CHECK(!is_quantised(j.weight.type));
  }
  if (ctx.dry()) return;
  const std::vector<Task> tasks = tasks_of(jobs);
  parallel_for(ctx, std::ssize(tasks), 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) run(tasks[static_cast<size_t>(i)], x, ldx);
  });
}

void weight_product(const Context& ctx, int64_t rows, const float* x, int64_t ldx,
                    const WeightView& weight, float* y, int64_t ldy) {
  const WeightJob job{weight, 0, rows, y, ldy};
  weight_product(ctx, x, ldx, {&job, 1});
}

}  // namespace braid
