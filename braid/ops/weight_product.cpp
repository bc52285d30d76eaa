#include "braid/ops/weight_product.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "braid/core/parallel.h"
#include "braid/kernels/gemm/gemm.h"
#include "braid/kernels/gemm/parts.h"
#include "braid/kernels/quant/quant.h"
#include "braid/kernels/simd/amx.h"
#include "braid/ops/product.h"
#include "braid/ops/scratch_slots.h"

namespace braid {
namespace {

// A product that is bound by reading weights is cut into ranges of about this many bytes: short
// enough to even out, long enough that starting one costs little.
constexpr int64_t kStreamBytes = int64_t{512} << 10;
constexpr int64_t kFewestStreams = 4, kMostStreams = 32;
constexpr int64_t kManyJobs = 4;  // from more jobs than this on, one job is not split finely
constexpr int64_t kTileRows = 256, kTileCols = 512;
constexpr int64_t kPairCols = 2 * kPanelRows;
constexpr int64_t kQuantCols = 2 * kPairCols;  // outputs of a task over many rows
constexpr int64_t kMostQuantRows = 264;        // its rows
// By matrix tiles: k in slices, so that both operands of a task stay in the second cache (128 to
// 512 measured). With fewer rows turning the weights would not pay.
constexpr int64_t kFewestPartsRows = 16, kPartsSlice = 256;
constexpr int64_t kQuantiseGrain = int64_t{1} << 15;  // numbers worth waking a thread for

// Rows of x as int8, shared by the jobs that read the same rows.
struct Rounded {
  WeightType type;
  int64_t row, rows, tile_rows, tile_bytes;
  int64_t first_tile;  // over all of them
  size_t offset;       // of its first tile in the buffer

  int64_t tiles() const { return (rows + tile_rows - 1) / tile_rows; }
};

struct Task {
  const WeightJob* job;
  int64_t row, rows;  // of the job
  int64_t col, cols;  // outputs
  const Rounded* rounded;
};

bool streams(const WeightJob& job) { return job.rows <= kGemvRows; }

// Activations in three bf16 parts times bf16 weights on matrix tiles.
bool by_parts(const WeightJob& job) {
  return job.weight.type == WeightType::kBF16 && job.rows >= kFewestPartsRows &&
         job.weight.cols % kPartDepth == 0 && amx();
}
constexpr PartCounts kParts{3, 1};

int64_t stream_cols(std::span<const WeightJob> jobs) {
  int64_t total = 0, size = 0;
  for (const WeightJob& j : jobs) {
    total += j.weight.rows;
    size += weight_bytes(j.weight.type, j.weight.rows, j.weight.cols);
  }
  const int64_t ranges = std::clamp(size / kStreamBytes, kFewestStreams, kMostStreams);
  return (grain_for(total, ranges) + kPanelRows - 1) / kPanelRows * kPanelRows;
}

// Near-equal ranges of whole tiles, small enough for their int8 form to stay in the second cache.
int64_t quant_rows(int64_t rows) {
  const int64_t ranges = (rows + kMostQuantRows - 1) / kMostQuantRows;
  const int64_t each = (rows + ranges - 1) / ranges;
  const int64_t tile = quant_tile_rows();
  return (each + tile - 1) / tile * tile;
}

ProductTile tile_of(const WeightJob& j, size_t jobs, int64_t stream) {
  if (streams(j)) return {j.rows, stream};
  if (is_quantised(j.weight.type)) return {quant_rows(j.rows), kQuantCols};
  ProductTile t{kTileRows, kTileCols};
  if (by_parts(j)) return t;
  if (static_cast<int64_t>(jobs) <= kManyJobs) {
    t = product_tile(j.rows, j.weight.rows, j.weight.cols);
  }
  if (j.weight.type == WeightType::kBF16) t.n = std::min(t.n, kTileCols);  // widened in scratch
  return t;
}

std::vector<Task> tasks_of(std::span<const WeightJob> jobs,
                           const std::vector<const Rounded*>& inputs) {
  std::vector<Task> tasks;
  const int64_t stream = stream_cols(jobs);
  for (size_t i = 0; i < jobs.size(); ++i) {
    const WeightJob& j = jobs[i];
    const ProductTile t = tile_of(j, jobs.size(), stream);
    for (int64_t r = 0; r < j.rows; r += t.m) {
      for (int64_t c = 0; c < j.weight.rows; c += t.n) {
        tasks.push_back(
            {&j, r, std::min(t.m, j.rows - r), c, std::min(t.n, j.weight.rows - c), inputs[i]});
      }
    }
  }
  return tasks;
}

// Of a pair of panels made ready for products, in floats of whole cache lines.
int64_t pair_floats(int64_t cols) { return (quant_pair_bytes(cols) + 63) / 64 * 16; }

// Scratch that a task needs; none where weights are read once, as they lie.
int64_t scratch_floats(const Task& t) {
  const WeightView& w = t.job->weight;
  if (by_parts(*t.job)) {
    return parts_floats(kParts.left, kTileRows, kPartsSlice) +
           parts_floats(kParts.right, kTileCols, kPartsSlice) + kTileRows * kTileCols;
  }
  if (streams(*t.job) || w.type == WeightType::kF32) return 0;
  if (w.type == WeightType::kBF16) return t.cols * w.cols;
  return pair_floats(w.cols) + quant_sums(kMostQuantRows);
}

// ---- f32 and bf16

void run_wide(const Task& t, const float* x, int64_t ldx, float* widened) {
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
    widen_bf16(bf16 + t.col * k, t.cols * k, widened);
    w = widened;
  }
  gemm_f32(false, true, t.rows, t.cols, k, rows, ldx, w, k, 0, y + t.col, j.ldy);
}

int64_t whole_tiles(int64_t n) { return (n + kPartRows - 1) / kPartRows * kPartRows; }

void run_parts(const Task& t, const float* x, int64_t ldx, float* scratch) {
  const WeightJob& j = *t.job;
  const int64_t cols = j.weight.cols;
  const uint16_t* w = reinterpret_cast<const uint16_t*>(j.weight.data) + t.col * cols;
  const float* rows = x + (j.row + t.row) * ldx;
  float* y = j.y + t.row * j.ldy + t.col;
  float* left = scratch;
  float* right = left + parts_floats(kParts.left, kTileRows, kPartsSlice);
  float* sums = right + parts_floats(kParts.right, kTileCols, kPartsSlice);
  // Sums of tiles that stick out of y are kept aside.
  const int64_t m = whole_tiles(t.rows), n = whole_tiles(t.cols);
  const bool whole = m == t.rows && n == t.cols;
  for (int64_t k = 0; k < cols; k += kPartsSlice) {
    const int64_t depth = std::min(kPartsSlice, cols - k);
    split_left(kParts, rows + k, ldx, t.rows, depth, 1.0f, left);
    turn_right(w + k, cols, depth, t.cols, right);
    multiply_parts(kParts, m, n, depth, left, right, k > 0, whole ? y : sums, whole ? j.ldy : n);
  }
  for (int64_t r = 0; r < t.rows && !whole; ++r) std::copy_n(sums + r * n, t.cols, y + r * j.ldy);
}

// ---- int8

// What the jobs read, in the order in which it lies in the buffer.
struct RoundedInputs {
  std::vector<Rounded> parts;
  std::vector<size_t> of_job;  // index into parts, or kNone
  int64_t tiles = 0;
  size_t bytes = 0;
  static constexpr size_t kNone = SIZE_MAX;

  void add(const WeightJob& j) {
    if (!is_quantised(j.weight.type) || j.rows == 0) return of_job.push_back(kNone);
    const auto same = [&](const Rounded& r) {
      return r.type == j.weight.type && r.row == j.row && r.rows == j.rows;
    };
    if (parts.empty() || !same(parts.back())) {
      const int64_t tile_rows = streams(j) ? quant_stream_tile(j.rows) : quant_tile_rows();
      const int64_t tile_bytes = quant_tile_bytes(tile_rows, j.weight.cols);
      parts.push_back({j.weight.type, j.row, j.rows, tile_rows, tile_bytes, tiles, bytes});
      tiles += parts.back().tiles();
      bytes += static_cast<size_t>(parts.back().tiles() * tile_bytes);
    }
    of_job.push_back(parts.size() - 1);
  }

  std::vector<const Rounded*> pointers() const {
    std::vector<const Rounded*> p;
    for (const size_t i : of_job) p.push_back(i == kNone ? nullptr : &parts[i]);
    return p;
  }
};

void round_inputs(const Context& ctx, const RoundedInputs& in, const float* x, int64_t ldx,
                  int64_t cols, std::byte* buffer) {
  const int64_t grain = std::max<int64_t>(1, kQuantiseGrain / (quant_tile_rows() * cols));
  parallel_for(ctx, in.tiles, grain, [&](int64_t begin, int64_t end) {
    auto part = std::upper_bound(in.parts.begin(), in.parts.end(), begin,
                                 [](int64_t t, const Rounded& r) { return t < r.first_tile; }) -
                1;
    for (int64_t t = begin; t < end; ++t) {
      while (t >= part->first_tile + part->tiles()) ++part;
      const int64_t tile = t - part->first_tile, row = tile * part->tile_rows;
      quantise_rows(part->type, x + (part->row + row) * ldx, ldx,
                    std::min(part->tile_rows, part->rows - row), cols, part->tile_rows,
                    buffer + part->offset + static_cast<size_t>(tile * part->tile_bytes));
    }
  });
}

void run_quantised(const Task& t, const std::byte* buffer, float* scratch) {
  const WeightJob& j = *t.job;
  const WeightView& w = j.weight;
  const std::byte* tiles = buffer + t.rounded->offset;
  if (streams(j)) {
    quant_stream(w.type, w.data, w.rows, w.cols, tiles, j.rows, j.y, j.ldy, t.col / kPanelRows,
                 (t.col + t.cols + kPanelRows - 1) / kPanelRows);
    return;
  }
  tiles += t.row / t.rounded->tile_rows * t.rounded->tile_bytes;
  std::byte* pair = reinterpret_cast<std::byte*>(scratch);
  float* sums = scratch + pair_floats(w.cols);
  for (int64_t c = t.col; c < t.col + t.cols; c += kPairCols) {
    const int64_t outs = std::min(kPairCols, w.rows - c);
    quant_expand(w.type, w.data + c / kPanelRows * panel_bytes(w.type, w.cols),
                 (outs + kPanelRows - 1) / kPanelRows, w.cols, pair);
    quant_tiles(w.type, pair, w.cols, tiles, t.rows, outs, j.y + t.row * j.ldy + c, j.ldy, sums);
  }
}

}  // namespace

void weight_product(const Context& ctx, const float* x, int64_t ldx,
                    std::span<const WeightJob> jobs) {
  RoundedInputs inputs;
  for (const WeightJob& j : jobs) {
    BRAID_CHECK(j.weight.cols == jobs[0].weight.cols);
    ctx.count_product(2.0 * static_cast<double>(j.rows) * static_cast<double>(j.weight.rows) *
                      static_cast<double>(j.weight.cols));
    inputs.add(j);
  }
  Tensor buffer;
  if (inputs.bytes > 0) {
    buffer = Tensor::empty(ctx, {static_cast<int64_t>(inputs.bytes)}, DType::kU8);
  }
  const std::vector<Task> tasks = tasks_of(jobs, inputs.pointers());
  int64_t floats = 0;
  for (const Task& t : tasks) floats = std::max(floats, scratch_floats(t));
  std::optional<ScratchSlots> scratch;
  if (floats > 0) scratch.emplace(ctx, std::ssize(tasks), floats);
  if (ctx.dry() || jobs.empty()) return;
  std::byte* rounded = buffer.defined() ? buffer.data<std::byte>() : nullptr;
  if (rounded != nullptr) round_inputs(ctx, inputs, x, ldx, jobs[0].weight.cols, rounded);
  parallel_for(ctx, std::ssize(tasks), 1, [&](int64_t begin, int64_t end) {
    std::optional<ScratchSlots::Lease> lease;
    if (scratch) lease.emplace(*scratch);
    float* const own = lease ? lease->data() : nullptr;
    for (int64_t i = begin; i < end; ++i) {
      const Task& t = tasks[static_cast<size_t>(i)];
      if (t.rounded != nullptr) {
        run_quantised(t, rounded, own);
      } else if (by_parts(*t.job)) {
        run_parts(t, x, ldx, own);
      } else {
        run_wide(t, x, ldx, own);
      }
    }
  });
}

void weight_product(const Context& ctx, int64_t rows, const float* x, int64_t ldx,
                    const WeightView& weight, float* y, int64_t ldy) {
  const WeightJob job{weight, 0, rows, y, ldy};
  weight_product(ctx, x, ldx, {&job, 1});
}

bool product_needs_library(WeightType type, int64_t cols) {
  if (is_quantised(type)) return false;
  return type != WeightType::kBF16 || cols % kPartDepth != 0 || !amx();
}

}  // namespace braid
