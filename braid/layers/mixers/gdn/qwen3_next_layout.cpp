#include "braid/layers/mixers/gdn/qwen3_next_layout.h"

#include <algorithm>

#include "braid/base/format.h"

namespace braid {
namespace {

void check_rows(const char* name, const Tensor& t, int64_t rows) {
  if (t.rank() == 2 && t.contiguous() && t.size(0) == rows) return;
  throw Error(ErrorKind::kBadInput,
              format("{} is {}, expected {} rows", name, t.shape().str(), rows));
}

void copy_rows(const Context& ctx, const Tensor& from, int64_t from_row, const Tensor& into,
               int64_t into_row, int64_t rows) {
  const int64_t width = from.size(1);
  if (ctx.dry()) return;
  std::copy_n(from.data() + from_row * width, rows * width, into.data() + into_row * width);
}

}  // namespace

GdnQkvz split_qwen3_next_qkvz(const Context& ctx, const HeadSizes& n, const Tensor& qkvz) {
  check_rows("in_proj_qkvz.weight", qkvz, 2 * n.keys() + 2 * n.values());
  const int64_t k = n.key_dim, v = n.value_heads / n.heads * n.value_dim, group = 2 * (k + v);
  GdnQkvz out{Tensor::empty(ctx, {2 * n.keys() + n.values(), qkvz.size(1)}),
              Tensor::empty(ctx, {n.values(), qkvz.size(1)})};
  for (int64_t h = 0; h < n.heads; ++h) {
    copy_rows(ctx, qkvz, h * group, out.qkv, h * k, k);
    copy_rows(ctx, qkvz, h * group + k, out.qkv, n.keys() + h * k, k);
    copy_rows(ctx, qkvz, h * group + 2 * k, out.qkv, 2 * n.keys() + h * v, v);
    copy_rows(ctx, qkvz, h * group + 2 * k + v, out.z, h * v, v);
  }
  return out;
}

GdnBa split_qwen3_next_ba(const Context& ctx, const HeadSizes& n, const Tensor& ba) {
  check_rows("in_proj_ba.weight", ba, 2 * n.value_heads);
  const int64_t r = n.value_heads / n.heads;
  GdnBa out{Tensor::empty(ctx, {n.value_heads, ba.size(1)}),
            Tensor::empty(ctx, {n.value_heads, ba.size(1)})};
  for (int64_t h = 0; h < n.heads; ++h) {
    copy_rows(ctx, ba, 2 * h * r, out.b, h * r, r);
    copy_rows(ctx, ba, (2 * h + 1) * r, out.a, h * r, r);
  }
  return out;
}

}  // namespace braid
