#pragma once
// The one interface of mixers and channels. A layer has ONE forward, used by training (tape, no
// states), prefill and decode (states). It picks its chunked or step kernel by length itself.

#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/layers/batch.h"
#include "braid/layers/links.h"
#include "braid/layers/options.h"
#include "braid/ops/parameter.h"
#include "braid/state/state_options.h"

namespace braid {

// Model-wide facts a layer may need to set its defaults and to create its parameters.
struct LayerEnv {
  int64_t width = 0;
  int64_t heads = 0;      // default number of heads (model.toml `heads`); 0 = width / head_dim
  int64_t head_dim = 64;  // default size of a head
  double norm_eps = 1e-6;
  int64_t depth = 1;  // executed sub-layers in the whole stack (for scaled init)
  int64_t layer_index =
      0;  // this sub-layer's index, 0-based in the order of the expression (lightning's slopes)
  double init_std = 0.02;
  double out_init_std = 0.02;  // for projections that write to the residual stream
  LinkTable* links = nullptr;  // names between layers; null for a layer made alone
  int64_t meta_tokens = 0;     // rows before a sequence's own that no window leaves out
};

// A layer's parameters in double precision by the names it gave them ("q_proj.weight").
class ReferenceParams {
 public:
  std::map<std::string, std::vector<double>, std::less<>> values;
  ReferenceLinks* links = nullptr;  // values between layers; null for a layer alone
  const std::vector<double>& operator[](std::string_view name) const {
    const auto found = values.find(name);
    BRAID_CHECK(found != values.end());
    return found->second;
  }
};

class Layer {
 public:
  virtual ~Layer() = default;
  // x [T, width] (already normed by the residual scheme) -> [T, width].
  virtual Tensor forward(const Context& ctx, const Tensor& x, const Batch& batch,
                         States states) = 0;
  // A fresh state for one sequence, or null for a layer that remembers nothing.
  virtual std::unique_ptr<LayerState> make_state(const Context&, const StateOptions& = {}) const {
    return nullptr;
  }
  // State bytes of one sequence after `tokens` tokens (what `plan` prints; equals
  // make_state()->bytes() then).
  virtual size_t state_bytes(int64_t /*tokens*/, const StateOptions& = {}) const { return 0; }
  // Bytes that one more token after `tokens` others reads of this layer's state and of one that it
  // reads by name: only rows that the token sees, and at most so many where contents choose them.
  virtual size_t state_read_bytes(int64_t tokens, const StateOptions& options = {}) const {
    return state_bytes(tokens, options);
  }
  // Canonical options, defaults left out: "heads=16,gate=true". parse(print(x)) == x.
  virtual Options options() const = 0;
  // Parameters that one token does not use: the experts it is not sent to.
  virtual int64_t idle_parameters() const { return 0; }
  // The layer's definition in double precision for one fresh sequence: x [tokens, width] ->
  // [tokens, width], straight from the equations of its README and sharing no code with forward
  // (foo_ref.h). What `braid verify` compares with.
  virtual std::vector<double> reference(const ReferenceParams& params, std::span<const double> x,
                                        int64_t tokens) const = 0;
  // Called after each optimizer step (a router's balance bias).
  virtual void after_step(const Context&) {}
};

// What list.inc names for every layer: how to make one from its options.
struct LayerType {
  const char* name;
  const char* summary;  // one line for --help and the README's table
  std::unique_ptr<Layer> (*make)(const Options& options, const LayerEnv& env, ParamBuilder& params);
};

}  // namespace braid
