#include "braid/importers/model_source.h"

#include <algorithm>
#include <cstring>
#include <map>

#include "braid/base/error.h"
#include "braid/ops/weight.h"

namespace braid {
namespace {

class ModelSource final : public TensorSource {
 public:
  ModelSource(const Model& model, const TensorMap& map, std::string path)
      : map_(map), path_(std::move(path)), parts_(map.tensors.size()) {
    auto use = map.parameters.begin();
    for (const Parameter& p : model.parameters()) {
      BRAID_CHECK(use->parameter == p.name);
      for (const RowRun& run : use->runs) parts_[run.tensor].push_back({&p, &*use, &run});
      ++use;
    }
    for (size_t i = 0; i < map.tensors.size(); ++i) {
      const TensorMap::Entry& e = map.tensors[i];
      SourceTensor t{e.name, e.shape, "F32", "", static_cast<uint64_t>(e.rows * e.columns) * 4};
      t.id = i;
      tensors_.push_back(std::move(t));
    }
    std::sort(tensors_.begin(), tensors_.end(),
              [](const SourceTensor& a, const SourceTensor& b) { return a.name < b.name; });
  }

  const std::string& path() const override { return path_; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  std::span<const std::byte> raw(const SourceTensor&) const override { return {}; }
  std::shared_ptr<const void> owner(const SourceTensor&) const override { return nullptr; }

  void read(const SourceTensor& t, int64_t first, int64_t rows, int64_t columns,
            float* out) const override {
    const TensorMap::Entry& e = map_.tensors[t.id];
    std::fill_n(out, rows * columns, 0.0f);
    for (const Part& part : parts_[t.id]) {
      if (e.transposed) {
        scatter(e, part, first * columns, (first + rows) * columns, out);
      } else {
        gather(e, part, first * columns, (first + rows) * columns, out);
      }
    }
  }

 private:
  struct Part {
    const Parameter* parameter;
    const TensorMap::Use* use;
    const RowRun* run;
  };

  // One row of a parameter, as it stands in the tensor.
  static void row_of(const Part& part, int64_t row, int64_t columns, float* out) {
    const Parameter& p = *part.parameter;
    if (p.weight) {
      weight_row(*p.weight, row, out);
    } else {
      std::memcpy(out, p.value.data() + row * columns, static_cast<size_t>(columns) * 4);
    }
    if (part.use->added == 0) return;
    for (int64_t i = 0; i < columns; ++i) out[i] -= static_cast<float>(part.use->added);
  }

  // Elements [begin, end) of a tensor whose rows are the parameter's.
  static void gather(const TensorMap::Entry& e, const Part& part, int64_t begin, int64_t end,
                     float* out) {
    const RowRun& run = *part.run;
    std::vector<float> row(static_cast<size_t>(e.columns));
    const int64_t from = std::max<int64_t>(0, (begin / e.columns - run.from) / run.step);
    for (int64_t i = from; i < run.count; ++i) {
      const int64_t at = (run.from + i * run.step) * e.columns;
      if (at >= end) break;
      const int64_t low = std::max(at, begin), high = std::min(at + e.columns, end);
      if (low >= high) continue;
      row_of(part, run.to + i, e.columns, row.data());
      std::copy_n(row.data() + (low - at), high - low, out + (low - begin));
    }
  }

  // Of a tensor [lead, in, out] whose columns are the parameter's rows.
  static void scatter(const TensorMap::Entry& e, const Part& part, int64_t begin, int64_t end,
                      float* out) {
    const RowRun& run = *part.run;
    const int64_t lead = e.shape.size() == 3 ? e.shape[0] : 1, width = e.rows / lead;
    std::vector<float> row(static_cast<size_t>(e.columns));
    for (int64_t i = 0; i < run.count; ++i) {
      const int64_t logical = run.from + i * run.step;
      const int64_t base = logical / width * width * e.columns + logical % width;
      if (base >= end || base + e.columns * width <= begin) continue;
      row_of(part, run.to + i, e.columns, row.data());
      for (int64_t j = 0; j < e.columns; ++j) {
        const int64_t at = base + j * width;
        if (at >= begin && at < end) out[at - begin] = row[static_cast<size_t>(j)];
      }
    }
  }

  const TensorMap& map_;
  std::string path_;
  std::vector<std::vector<Part>> parts_;  // of every tensor
  std::vector<SourceTensor> tensors_;
};

}  // namespace

std::unique_ptr<TensorSource> model_source(const Model& model, const TensorMap& map,
                                           std::string path) {
  return std::make_unique<ModelSource>(model, map, std::move(path));
}

}  // namespace braid
