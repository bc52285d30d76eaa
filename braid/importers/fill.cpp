#include "braid/importers/fill.h"

#include <algorithm>
#include <vector>

#include "braid/base/error.h"

namespace braid {
namespace {

// Rows `from`, `from + step`, ... of a tensor kept as [lead, in, out]: row r is column r % out of
// matrix r / out. Such tensors are plain, so that single numbers can be asked for.
void read_columns(const TensorSource& source, const SourceTensor& t, const TensorMap::Entry& entry,
                  int64_t from, int64_t step, int64_t count, float* out) {
  const int64_t in = entry.columns;
  const int64_t lead = entry.shape.size() == 3 ? entry.shape[0] : 1;
  const int64_t width = entry.rows / lead;
  std::vector<float> piece(static_cast<size_t>(std::min(count * step, width)));
  int64_t done = 0;
  while (done < count) {
    const int64_t row = from + done * step, matrix = row / width, column = row % width;
    const int64_t here = std::min(count - done, (width - column + step - 1) / step);
    const int64_t span = (here - 1) * step + 1;
    for (int64_t j = 0; j < in; ++j) {
      source.read(t, (matrix * in + j) * width + column, span, 1, piece.data());
      for (int64_t i = 0; i < here; ++i)
        out[(done + i) * in + j] = piece[static_cast<size_t>(i * step)];
    }
    done += here;
  }
}

void read_run(const TensorSource& source, const TensorMap& map, const RowRun& run, int64_t skip,
              int64_t count, float* out) {
  const TensorMap::Entry& entry = map.tensors[run.tensor];
  const SourceTensor* t = source.find(entry.name);
  BRAID_CHECK(t != nullptr);
  const int64_t from = run.from + skip * run.step;
  if (entry.transposed && !t->output_major) {
    read_columns(source, *t, entry, from, run.step, count, out);
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

}  // namespace braid
