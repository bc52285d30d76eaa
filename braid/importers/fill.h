#pragma once
// From the tensors of a checkpoint to the parameters of a model.

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "braid/importers/tensor_source.h"
#include "braid/importers/tensor_table.h"
#include "braid/ops/parameter.h"
#include "braid/stack/weights.h"

namespace braid {

// Rows [first, first + rows) of a parameter in f32, gathered from the tensors they stand in.
void read_rows(const TensorSource& source, const TensorMap& map, const TensorMap::Use& use,
               int64_t first, int64_t rows, float* out);

// Rows `from`, `from + step`, ... of a plain tensor kept as [lead, in, out] and seen as rows of
// [lead, out, in].
void read_columns(const TensorSource& source, const SourceTensor& tensor, int64_t in, int64_t out,
                  int64_t from, int64_t step, int64_t count, float* to);

struct FillOptions {
  std::optional<WeightType> weights;  // of matrices; absent: as the checkpoint has them
  bool writable = false;              // f32 copies, never views of the file: for training
  // Called with the type of every parameter before anything is allocated; may throw.
  std::function<void(std::span<const WeightType>)> before = {};
  ByteProgress progress = {};  // see FillProgress
};

// The type a parameter is kept in. As stored: f32 and f16 in f32; bf16, fp8 and MXFP4 in bf16 (of
// these only fp8 rounds); 8-bit blocks in q8, 4-bit blocks in q4 or, with minima, q4min, other
// blocks in q8; the widest of them where it is made of several. Gates, decays, norms, convolutions
// and routers stay f32.
WeightType fill_type(const TensorSource& source, const TensorMap& map, const TensorMap::Use& use,
                     const Parameter& parameter, const FillOptions& options);

// Gives every parameter of a deferred model its value; plain f32 and bf16 matrices are views of the
// mapped file, paged in and counted in ctx's arena. Throws Error(kBudget) past its budget. Returns
// what was rounded, a line each.
std::vector<std::string> fill_parameters(const Context& ctx, const TensorSource& source,
                                         const TensorMap& map, ParameterSet& parameters,
                                         const FillOptions& options);

}  // namespace braid
