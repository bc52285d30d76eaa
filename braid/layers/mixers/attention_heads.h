#pragma once
// How mixers of softmax attention name and resolve their heads and positions.

#include <cstdint>
#include <string_view>

#include "braid/layers/attender.h"
#include "braid/layers/layer.h"
#include "braid/ops/rope.h"

namespace braid {

// As written in a stack expression (0 = a default), or resolved.
struct AttentionHeads {
  int64_t heads = 0;     // of queries
  int64_t kv_heads = 0;  // of keys and values, a divisor of heads; 0: heads
  int64_t head_dim = 0;
  bool rope = true;  // positions turn queries and keys
  double rope_theta = 10000;

  void visit(OptionVisitor& v, bool rope_by_default = true);
  // Every size given: heads and head_dim as resolve_heads does. Throws Error(kUsage), naming both
  // values, for what does not divide or makes no sense.
  AttentionHeads resolved(std::string_view layer, const LayerEnv& env) const;
  // For mixers that turn whole heads: throws Error(kUsage) where head_dim is odd.
  void require_pairs(std::string_view layer) const;
  // Whole heads turned, halves with halves.
  RopeConfig rotation() const { return {rope_theta, head_dim, false, 0, {}}; }
  double scale() const;  // head_dim^-1/2
  // What plan and others are told of a layer with these heads.
  AttendedPositions positions(int64_t window) const;
};

}  // namespace braid
