#pragma once
// What the mixers of softmax attention share: a cache of keys and values per sequence, attention
// over it or over this call's own, and handing either to later layers (layers/links.h).

#include <memory>
#include <string>

#include "braid/layers/layer.h"
#include "braid/ops/attention.h"
#include "braid/state/kv_state.h"

namespace braid {

std::unique_ptr<LayerState> make_kv(const Context& ctx, const KvShape& shape,
                                    const StateOptions& options);
size_t kv_bytes(const KvShape& shape, int64_t tokens, const StateOptions& options);
// What one more token reads of it (Layer::state_read_bytes).
size_t kv_read_bytes(const KvShape& shape, int64_t tokens, const StateOptions& options);

// What a publisher says of its keys and values, and what a reader takes from it.
LinkShape kv_link(const KvShape& shape);
KvShape kv_of_link(const LinkShape& link);

// A layer that reads another's keys and values.
struct KvReader {
  int64_t heads = 0;      // of queries
  int64_t kv_heads = 0;   // as written; 0: the publisher's
  int64_t head_dim = 0;   // of queries and keys
  int64_t value_dim = 0;  // of values
  int64_t window = 0;     // as written; 0: the publisher's
  int64_t together = 1;   // heads that the cache keeps as one
};
// The keys and values published as `of`. Throws Error(kUsage), naming both values, where the
// reader's heads do not fit them or its window is wider than theirs.
KvShape read_kv_link(std::string_view layer, LinkTable* links, const std::string& of,
                     const KvReader& reader);

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
