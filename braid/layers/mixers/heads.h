#pragma once
// How linear mixers name and resolve their head sizes.

#include <cstdint>
#include <string_view>

#include "braid/layers/layer.h"

namespace braid {

// H key heads of K channels; HV = G * H value heads of V channels.
struct HeadSizes {
  int64_t heads = 0;
  int64_t value_heads = 0;
  int64_t key_dim = 0;
  int64_t value_dim = 0;
  int64_t keys() const { return heads * key_dim; }
  int64_t values() const { return value_heads * value_dim; }
};

// As written in a stack expression; 0 = the default that resolve_heads gives.
struct HeadOptions {
  int64_t heads = 0;
  int64_t head_dim = 0;   // key channels of a head
  int64_t v_heads = 0;    // value heads, a multiple of heads
  int64_t value_dim = 0;  // value channels of a head
  void visit(OptionVisitor& v);
};

// Heads given alone share the layer's width: head_dim = width / heads / `shares`, where `shares` >
// 1 for mixers whose keys take only that part of the width. head_dim given alone: heads = width /
// head_dim / shares. Neither: LayerEnv's. v_heads defaults to heads, value_dim to head_dim *
// expand_v. Throws Error(kUsage), naming both values, where something does not divide or is not
// positive.
HeadSizes resolve_heads(std::string_view layer, const HeadOptions& options, const LayerEnv& env,
                        int64_t shares = 1, int64_t expand_v = 1);

float key_scale(const HeadSizes& sizes);  // K^-1/2

// Throws Error(kUsage) unless `taps` of a short convolution is 0 (none) or 2 to 16.
void check_conv_taps(std::string_view layer, int64_t taps);

}  // namespace braid
