#include "braid/layers/mixers/attention_heads.h"

#include <cmath>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/layers/mixers/heads.h"

namespace braid {
namespace {

constexpr double kTheta = 10000;

[[noreturn]] void usage(std::string_view layer, const std::string& message) {
  throw Error(ErrorKind::kUsage, format("{}: {}", layer, message));
}

}  // namespace

void AttentionHeads::visit(OptionVisitor& v, bool rope_by_default) {
  v.field("heads", heads, int64_t{0});
  v.field("kv_heads", kv_heads, int64_t{0});
  v.field("head_dim", head_dim, int64_t{0});
  v.field("rope", rope, rope_by_default);
  v.field("rope_theta", rope_theta, kTheta);
}

AttentionHeads AttentionHeads::resolved(std::string_view layer, const LayerEnv& env) const {
  const HeadSizes sizes = resolve_heads(layer, {heads, head_dim, 0, 0}, env);
  AttentionHeads r = *this;
  r.heads = sizes.heads;
  r.head_dim = sizes.key_dim;
  if (kv_heads == 0) r.kv_heads = r.heads;
  if (r.kv_heads < 1 || r.heads % r.kv_heads != 0)
    usage(layer, format("heads={} is not a multiple of kv_heads={}", r.heads, r.kv_heads));
  if (!rope && rope_theta != kTheta)
    usage(layer, format("rope_theta={} says how positions turn, but rope=false", rope_theta));
  if (!(rope_theta > 0)) usage(layer, format("rope_theta={} is not positive", rope_theta));
  return r;
}

void AttentionHeads::require_pairs(std::string_view layer) const {
  if (rope && head_dim % 2 != 0)
    usage(layer, format("head_dim={} is odd; rope turns channels in pairs", head_dim));
}

AttendedPositions AttentionHeads::positions(int64_t window) const {
  return {rope, rope ? rope_theta : 0, 1, "", window};
}

double AttentionHeads::scale() const { return 1 / std::sqrt(static_cast<double>(head_dim)); }

}  // namespace braid
