#include "braid/importers/fill.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/core/parallel.h"
#include "braid/ops/weight.h"

namespace braid {
// Row r is column r % out of matrix r / out. Single numbers can be asked of a plain tensor.
void read_columns(const TensorSource& source, const SourceTensor& t, int64_t in, int64_t out,
                  int64_t from, int64_t step, int64_t count, float* to) {
  std::vector<float> piece(static_cast<size_t>(std::min(count * step, out)));
  int64_t done = 0;
  while (done < count) {
    const int64_t row = from + done * step, matrix = row / out, column = row % out;
    const int64_t here = std::min(count - done, (out - column + step - 1) / step);
    const int64_t span = (here - 1) * step + 1;
    for (int64_t j = 0; j < in; ++j) {
      source.read(t, (matrix * in + j) * out + column, span, 1, piece.data());
      for (int64_t i = 0; i < here; ++i)
        to[(done + i) * in + j] = piece[static_cast<size_t>(i * step)];
    }
    done += here;
  }
}

namespace {

void read_run(const TensorSource& source, const TensorMap& map, const RowRun& run, int64_t skip,
              int64_t count, float* out) {
  const TensorMap::Entry& entry = map.tensors[run.tensor];
  const SourceTensor* t = source.find(entry.name);
  BRAID_CHECK(t != nullptr);
  const int64_t from = run.from + skip * run.step;
  if (entry.transposed && !t->output_major) {
    const int64_t lead = entry.shape.size() == 3 ? entry.shape[0] : 1;
    read_columns(source, *t, entry.columns, entry.rows / lead, from, run.step, count, out);
  } else if (run.step == 1) {
    source.read(*t, from, count, entry.columns, out);
  } else {
    for (int64_t i = 0; i < count; ++i)
      source.read(*t, from + i * run.step, 1, entry.columns, out + i * entry.columns);
  }
}

}  // namespace

void read_rows(const TensorSource& source, const TensorMap& map, const TensorMap::Use& use,
               int64_t first, int64_t rows, float* out) {
  auto run = std::upper_bound(use.runs.begin(), use.runs.end(), first,
                              [](int64_t row, const RowRun& r) { return row < r.to; });
  BRAID_CHECK(run != use.runs.begin());
  float* const begin = out;
  for (--run; rows > 0; ++run) {
    BRAID_CHECK(run != use.runs.end());
    const int64_t skip = first - run->to, count = std::min(rows, run->count - skip);
    read_run(source, map, *run, skip, count, out);
    out += count * use.columns;
    first += count;
    rows -= count;
  }
  if (use.added == 0) return;
  for (float* x = begin; x < out; ++x) *x += static_cast<float>(use.added);
}

namespace {

const SourceTensor& tensor_of(const TensorSource& source, const TensorMap& map, const RowRun& run) {
  const SourceTensor* t = source.find(map.tensors[run.tensor].name);
  BRAID_CHECK(t != nullptr);
  return *t;
}

WeightType stored_type(std::string_view stored) {
  if (stored == "F32" || stored == "F16" || stored == "F64") return WeightType::kF32;
  if (stored == "BF16" || stored == "MXFP4" || stored.starts_with("F8")) return WeightType::kBF16;
  if (stored == "Q4_0") return WeightType::kQ4;
  if (stored == "Q4_1" || stored == "Q4_K") return WeightType::kQ4Min;
  return WeightType::kQ8;
}

int width(WeightType type) {
  switch (type) {
    case WeightType::kF32:
      return 4;
    case WeightType::kBF16:
      return 3;
    case WeightType::kQ8:
      return 2;
    case WeightType::kQ4Min:
      return 1;
    case WeightType::kQ4:
      break;
  }
  return 0;
}

// Of tensors stored otherwise, the widest.
WeightType stored_type(const TensorSource& source, const TensorMap& map,
                       const TensorMap::Use& use) {
  WeightType widest = WeightType::kQ4;
  for (const RowRun& run : use.runs) {
    const WeightType type = stored_type(tensor_of(source, map, run).stored);
    if (width(type) > width(widest)) widest = type;
  }
  return widest;
}

// The blocks of ggml that a quantised type holds as they are.
std::string_view own_blocks(WeightType type) {
  return type == WeightType::kQ8 ? "Q8_0" : type == WeightType::kQ4 ? "Q4_0" : "Q4_K";
}

// What filling rounds although nothing asked for it: how many matrices by the type they are stored
// in and the one they are kept in.
class Rounded {
 public:
  void count(const TensorSource& source, const TensorMap& map, const TensorMap::Use& use,
             WeightType type) {
    std::set<std::string_view> stored;
    for (const RowRun& run : use.runs) stored.insert(tensor_of(source, map, run).stored);
    for (const std::string_view s : stored) {
      if (type == WeightType::kBF16 && s.starts_with("F8")) {
        ++fp8_;
      } else if (is_quantised(type)
                     ? s != own_blocks(type) && !(type == WeightType::kQ8 && s == "Q4_0")
                     : type == WeightType::kBF16 && (s.starts_with("Q") || s.starts_with("IQ"))) {
        ++blocks_[{std::string(s), type}];
      }
    }
  }

  std::vector<std::string> notes() const {
    std::vector<std::string> out;
    if (fp8_ > 0) {
      out.push_back(
          format("{} matrices of fp8 with scales are kept in bf16, rounded; --weights f32 keeps "
                 "them exact",
                 fp8_));
    }
    std::string kept;
    for (const auto& [types, n] : blocks_) {
      kept += format("{}{} matrices stored as {} are kept as {}", kept.empty() ? "" : ", ", n,
                     types.first, weight_type_name(types.second));
    }
    if (!kept.empty()) out.push_back(kept + "; --weights f32 keeps them exact");
    return out;
  }

 private:
  size_t fp8_ = 0;
  std::map<std::pair<std::string, WeightType>, size_t> blocks_;
};

// A view of the mapped file, where the parameter is one plain tensor of that dtype.
Tensor mapped(const Context& ctx, const TensorSource& source, const TensorMap& map,
              const TensorMap::Use& use, const char* plain, Shape shape, DType dtype) {
  if (!use.whole || use.added != 0) return {};
  const SourceTensor& t = tensor_of(source, map, use.runs[0]);
  if (t.plain != plain) return {};
  const std::span<const std::byte> bytes = source.raw(t);
  const size_t align = t.plain == "F32" ? 4 : 2;
  if (reinterpret_cast<uintptr_t>(bytes.data()) % align != 0) return {};
  return Tensor::wrap(ctx.arena->adopt(bytes.data(), bytes.size(), source.owner(t)), 0, shape,
                      dtype);
}

Tensor read_f32(const Context& ctx, const TensorSource& source, const TensorMap& map,
                const TensorMap::Use& use) {
  Tensor value = Tensor::empty(ctx, use.shape);
  const int64_t grain = std::max<int64_t>(1, (1 << 16) / std::max<int64_t>(1, use.columns));
  parallel_for(ctx, use.rows, grain, [&](int64_t begin, int64_t end) {
    read_rows(source, map, use, begin, end - begin, value.data() + begin * use.columns);
  });
  return value;
}

const RowRun& run_of(const TensorMap::Use& use, int64_t row) {
  auto run = std::upper_bound(use.runs.begin(), use.runs.end(), row,
                              [](int64_t r, const RowRun& run) { return r < run.to; });
  return *--run;
}

// The row's blocks where the file has the very format of `type`.
const std::byte* blocks_of(const TensorSource& source, const TensorMap& map,
                           const TensorMap::Use& use, WeightType type, int64_t row) {
  const RowRun& run = run_of(use, row);
  const SourceTensor& t = tensor_of(source, map, run);
  if (!is_quantised(type) || t.stored != own_blocks(type) || map.tensors[run.tensor].transposed)
    return nullptr;
  return source.blocks(t, run.from + (row - run.to) * run.step);
}

std::shared_ptr<const Weight> read_weight(const Context& ctx, const TensorSource& source,
                                          const TensorMap& map, const TensorMap::Use& use,
                                          WeightType type) {
  if (type == WeightType::kBF16) {
    const int64_t bytes = weight_bytes(type, use.shape);
    if (const Tensor view = mapped(ctx, source, map, use, "BF16", {bytes}, DType::kU8);
        view.defined())
      return std::make_shared<Weight>(type, use.shape, view);
  }
  bool all = is_quantised(type) && use.added == 0;
  for (int64_t row = 0; all && row < use.rows; ++row)
    all = blocks_of(source, map, use, type, row) != nullptr;
  if (all) {
    return repack_weight(ctx, type, use.shape,
                         [&](int64_t row) { return blocks_of(source, map, use, type, row); });
  }
  return pack_weight(ctx, type, use.shape,
                     [&](int64_t row, float* out) { read_rows(source, map, use, row, 1, out); });
}

// What was copied out of the mapped file need not stay resident; the system keeps it cached.
void release(const TensorSource& source, const TensorMap& map, const TensorMap::Use& use) {
  for (const RowRun& run : use.runs) source.release(tensor_of(source, map, run));
}

}  // namespace

WeightType fill_type(const TensorSource& source, const TensorMap& map, const TensorMap::Use& use,
                     const Parameter& p, const FillOptions& options) {
  if (options.writable) return WeightType::kF32;
  if (options.weights) return weight_type_for(p, *options.weights);
  return weight_type_for(p, stored_type(source, map, use));
}

std::vector<std::string> fill_parameters(const Context& ctx, const TensorSource& source,
                                         const TensorMap& map, ParameterSet& parameters,
                                         const FillOptions& options) {
  Rounded rounded;
  std::vector<WeightType> types;
  auto use = map.parameters.begin();
  for (const Parameter& p : parameters) {
    BRAID_CHECK(use->parameter == p.name && use->shape == p.shape());
    types.push_back(fill_type(source, map, *use, p, options));
    if (!options.weights) rounded.count(source, map, *use, types.back());
    ++use;
  }
  if (options.before) options.before(types);
  FillProgress progress(parameters, types, options.progress);
  use = map.parameters.begin();
  auto type = types.begin();
  for (Parameter& p : parameters) {
    if (*type != WeightType::kF32) {
      set_weight(p, read_weight(ctx, source, map, *use, *type));
    } else {
      Tensor value;
      if (!options.writable) value = mapped(ctx, source, map, *use, "F32", use->shape, DType::kF32);
      set_f32(p, value.defined() ? value : read_f32(ctx, source, map, *use));
    }
    release(source, map, *use);
    progress.filled(p, *type);
    ++use;
    ++type;
  }
  ctx.arena->mark_weights();
  return rounded.notes();
}

}  // namespace braid
