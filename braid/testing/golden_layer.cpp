#include "braid/testing/golden_layer.h"

#include <algorithm>

#include "braid/base/format.h"

namespace braid::testing {

Tensor GoldenLayer::tokens(const std::string& name) const {
  const Tensor t = tensor(name);
  BRAID_CHECK(t.rank() >= 3);
  std::vector<int64_t> sizes{t.size(0) * t.size(1)};
  for (int i = 2; i < t.rank(); ++i) sizes.push_back(t.size(i));
  return t.reshape(Shape(std::span<const int64_t>(sizes)));
}

std::map<std::string, std::string> GoldenLayer::fill(ParameterSet& params,
                                                     const std::string& path) const {
  std::map<std::string, std::string> names;
  for (Parameter& p : params) {
    const std::string name = path + "." + p.name;
    const Tensor from = tensor("weight." + name);
    if (from.count() != p.value.count()) {
      throw Error(ErrorKind::kBadInput, format("{}: {} in the file, {} in the layer", name,
                                               from.shape().str(), p.value.shape().str()));
    }
    std::copy_n(from.data(), from.count(), p.value.data());
    names[p.name] = name;
  }
  for (const SafetensorsEntry& e : file_.entries()) {
    const std::string start = "weight." + path + ".";
    if (e.name.rfind(start, 0) == 0 && names.count(e.name.substr(start.size())) == 0) {
      throw Error(ErrorKind::kBadInput, format("{} fits no parameter of the layer", e.name));
    }
  }
  return names;
}

LayerRun run_with_gradients(const Context& ctx, Layer& layer, ParameterSet& params, Tensor x,
                            const Tensor& d_out, const Batch& batch) {
  Tape tape;
  Context train = ctx;
  train.tape = &tape;
  params.allocate_grads(ctx);
  params.zero_grads(ctx);
  tape.watch(x);
  LayerRun run;
  run.out = layer.forward(train, x, batch, {});
  tape.backward(ctx, run.out, d_out);
  run.grad_input = tape.grad(x);
  return run;
}

std::map<std::string, GoldenLayerTest>& golden_kinds() {
  static std::map<std::string, GoldenLayerTest> kinds;
  return kinds;
}

}  // namespace braid::testing
