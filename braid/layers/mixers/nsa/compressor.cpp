#include "braid/layers/mixers/nsa/compressor.h"

#include <vector>

#include "braid/ops/bias.h"
#include "braid/ops/elementwise.h"
#include "braid/ops/linear.h"
#include "braid/ops/rope.h"
#include "braid/ops/unfold.h"
#include "braid/ops/view.h"

namespace braid {

NsaCompressor::NsaCompressor(const NsaShape& s, const LayerEnv& env, ParamBuilder& params)
    : shape_(s) {
  if (!s.learned) return;
  const char* names[] = {"compress_k", "compress_v"};
  for (size_t i = 0; i < 2; ++i) {
    ParamBuilder own = params.scope(names[i]);
    const int64_t in = s.compressed.block * s.head_dim;
    networks_[i].position =
        &own.vector("position", {s.compressed.block, s.head_dim}, Init::normal(env.init_std));
    networks_[i].up = &own.matrix("up_proj.weight", s.hidden, in, env.init_std);
    networks_[i].down = &own.matrix("down_proj.weight", s.head_dim, s.hidden, env.init_std);
  }
}

Tensor NsaCompressor::learned(const Context& ctx, const Tensor& x,
                              std::span<const int64_t> seq_starts, const Network& network) const {
  const Tensor blocks = unfold_blocks(ctx, x, seq_starts, shape_.compressed);
  const int64_t count = blocks.size(0), heads = blocks.size(1);
  if (count == 0) return Tensor::empty(ctx, {0, heads, shape_.head_dim});
  Tensor y = reshape(ctx, blocks, {count * heads, blocks.size(2)});
  y = silu(ctx, linear(ctx, add_bias(ctx, y, *network.position), *network.up));
  return reshape(ctx, linear(ctx, y, *network.down), {count, heads, shape_.head_dim});
}

std::array<Tensor, 2> NsaCompressor::operator()(const Context& ctx, const Tensor& k,
                                                const Tensor& v,
                                                std::span<const int64_t> seq_starts,
                                                std::span<const int64_t> positions) const {
  const KvBlocks blocks = shape_.compressed;
  if (!shape_.learned)
    return {block_means(ctx, k, seq_starts, blocks), block_means(ctx, v, seq_starts, blocks)};
  Tensor keys = learned(ctx, k, seq_starts, networks_[0]);
  if (shape_.rope && keys.size(0) > 0) {
    std::vector<int64_t> rows = {0}, begins;  // every block alone
    for (size_t s = 0; s + 1 < seq_starts.size(); ++s) {
      for (int64_t i = 0; i < blocks.whole(seq_starts[s + 1] - seq_starts[s]); ++i) {
        begins.push_back(positions[s] + i * blocks.stride);
        rows.push_back(std::ssize(begins));
      }
    }
    keys = rope(ctx, shape_.rotation(), keys, rope_table(ctx, shape_.rotation(), rows, begins));
  }
  return {keys, learned(ctx, v, seq_starts, networks_[1])};
}

}  // namespace braid
