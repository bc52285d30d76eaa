#pragma once
// What the mixers of softmax attention share: a cache of keys and values per sequence, attention
// over it or over this call's own, and handing either to later layers (layers/links.h).

#include <memory>
#include <string>

#include "braid/layers/layer.h"
#include "braid/ops/attention.h"

namespace braid {

// Keys and values [T, heads, head_dim] and which of them a token sees.
struct KvShape {
  int64_t heads = 0, head_dim = 0;
  int64_t window = 0, chunk = 0;  // as in AttentionConfig; 0 = all
  int64_t forget_heads = 0;       // query heads with forget gates; 0 = none

  std::unique_ptr<LayerState> make_state(const Context& ctx, const StateOptions& options) const;
  size_t state_bytes(int64_t tokens, const StateOptions& options) const;

  LinkShape link() const { return {"kv", {heads, head_dim, window, chunk}}; }
  static KvShape of_link(const LinkShape& link) {
    return {link.sizes[0], link.sizes[1], link.sizes[2], link.sizes[3]};
  }
};

// The keys and values of this call's tokens, or, appended to them, the states that keep all; with
// forget gates their logarithms [T, Hq] as well.
LinkValue kept_kv(const Context& ctx, const Tensor& k, const Tensor& v, const Batch& batch,
                  States states, const Tensor& log_forget = {});

// q [T, Hq, d] over a publisher's keys and values, or a layer's own.
Tensor attend_kv(const Context& ctx, const AttentionConfig& config, const Tensor& q,
                 const Batch& batch, const LinkValue& kv, Parameter* sinks = nullptr);

// After the layer has attended: hands `kv` on under the name `as` unless that is empty. Readers
// come later in this forward: only then may a ring drop what no later token sees.
void publish_kv(const Batch& batch, const std::string& as, LinkValue kv);

}  // namespace braid
