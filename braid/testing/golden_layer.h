#pragma once
// Layer files of $BRAID_GOLDEN/recurrence (README there): a whole layer's input, weights, output
// and gradients as a published implementation gives them. A test registers the kinds it can run.

#include <map>
#include <set>
#include <string>
#include <vector>

#include "braid/formats/safetensors.h"
#include "braid/layers/layer.h"
#include "braid/ops/tape.h"

namespace braid::testing {

class GoldenLayer {
 public:
  explicit GoldenLayer(const std::string& path) : file_(SafetensorsFile::open(path)) {}

  const Context& ctx() const { return ctx_; }
  const SafetensorsFile& file() const { return file_; }
  int64_t integer(const char* key) const { return std::stoll(file_.metadata(key)); }
  double number(const char* key) const { return std::stod(file_.metadata(key)); }
  Tensor tensor(const std::string& name) const { return file_.to_f32(ctx_, name); }
  // [B, T, ...] -> [B * T, ...]: the batch laid end to end.
  Tensor tokens(const std::string& name) const;
  Batch batch() const { return Batch::uniform(integer("B"), integer("T")); }

  // Fills every parameter from the one tensor "weight.PATH.NAME" and returns PATH.NAME by
  // parameter name. Throws where a parameter has none, or a weight of `path` fits no parameter.
  std::map<std::string, std::string> fill(ParameterSet& params, const std::string& path) const;

 private:
  Context ctx_;
  SafetensorsFile file_;
};

// The layer's output, and the gradients of sum(out * d_out): of the input, and in the parameters.
struct LayerRun {
  Tensor out;
  Tensor grad_input;
};
LayerRun run_with_gradients(const Context& ctx, Layer& layer, ParameterSet& params, Tensor x,
                            const Tensor& d_out, const Batch& batch);

// Tests of one kind of file, by its metadata "layer". A static GoldenKind beside the test adds one.
using GoldenLayerTest = void (*)(const GoldenLayer& golden);
std::map<std::string, GoldenLayerTest>& golden_kinds();
struct GoldenKind {
  GoldenKind(const char* layer, GoldenLayerTest test) { golden_kinds()[layer] = test; }
};

}  // namespace braid::testing
