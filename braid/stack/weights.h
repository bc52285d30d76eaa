#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>

#include "braid/formats/safetensors.h"
#include "braid/ops/parameter.h"

namespace braid {

// Every parameter under its own name, buffers included, in the type it is kept in: f32 and bf16 as
// such tensors; quantised ones as U8 [bytes], the panels of kernels/quant/weight_type.h, with the
// metadata "braid.weight.NAME" = "q8 [4096, 1024]". They load as views of the mapped file.
void add_weights(SafetensorsWriter& out, const ParameterSet& parameters);
void add_weight(SafetensorsWriter& out, const Parameter& parameter);

// The weight that the file holds for a parameter of that name and shape: bf16, or quantised with
// its metadata. Null where it is plain f32. Throws Error(kBadInput), naming file and tensor and
// both values, for metadata that does not parse or fit.
std::shared_ptr<const Weight> weight_from_file(const SafetensorsFile& file, const std::string& name,
                                               const Shape& shape);

// Fills all parameters from the file. Strict (DESIGN section 5.6): throws Error(kBadInput) listing
// the tensors that are missing, left over or of another shape, and changes nothing then. Quantised
// tensors become weights that are read only; all others are copied to f32.
void load_weights(const Context& ctx, const SafetensorsFile& file, ParameterSet& parameters);

// Tells of parameters that are filled one after another, in bytes of the types they are kept in.
class FillProgress {
 public:
  FillProgress(const ParameterSet& parameters, std::span<const WeightType> types,
               const ByteProgress& progress);
  void filled(const Parameter& p, WeightType type);

 private:
  const ByteProgress& progress_;
  uint64_t done_ = 0, all_ = 0;
};

struct FillWeights {
  std::optional<WeightType> weights;  // of matrices; absent: as the file has them
  bool writable = false;              // f32 copies, never views of the file
  // Called with the type of every parameter before anything is allocated; may throw.
  std::function<void(std::span<const WeightType>)> before = {};
  ByteProgress progress = {};  // see FillProgress
};

// The same for a deferred model that is to be run: values are views of the mapped file where type
// and alignment allow, counted in ctx's arena. Quantised weights cannot be asked for in another
// quantised type. Throws Error(kBudget) past the arena's budget.
void fill_weights(const Context& ctx, const SafetensorsFile& file, ParameterSet& parameters,
                  const FillWeights& options);
// The type fill_weights would keep each parameter in.
std::vector<WeightType> fill_types(const SafetensorsFile& file, const ParameterSet& parameters,
                                   const FillWeights& options);

}  // namespace braid
