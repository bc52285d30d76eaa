#pragma once

#include "braid/importers/tensor_source.h"
#include "braid/importers/tensor_table.h"

namespace braid {

// Rows [first, first + rows) of a parameter in f32, gathered from the tensors they stand in.
void read_rows(const TensorSource& source, const TensorMap& map, const TensorMap::Use& use,
               int64_t first, int64_t rows, float* out);

}  // namespace braid
