#include "braid/layers/mixers/heads.h"

#include <cmath>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/ops/conv.h"

namespace braid {
namespace {

[[noreturn]] void usage(std::string message) { throw Error(ErrorKind::kUsage, std::move(message)); }

// The number of pieces of `size` in `width`.
int64_t pieces(std::string_view layer, const char* what, int64_t width, int64_t size,
               const char* remedy) {
  if (size < 1 || width % size != 0) {
    usage(format("{}: {}={} does not divide the width {}; {}", layer, what, size, width, remedy));
  }
  return width / size;
}

}  // namespace

void HeadOptions::visit(OptionVisitor& v) {
  v.field("heads", heads, int64_t{0});
  v.field("head_dim", head_dim, int64_t{0});
  v.field("v_heads", v_heads, int64_t{0});
  v.field("value_dim", value_dim, int64_t{0});
}

HeadSizes resolve_heads(std::string_view layer, const HeadOptions& options, const LayerEnv& env,
                        int64_t shares, int64_t expand_v) {
  const struct {
    const char* name;
    int64_t value;
  } given[] = {{"heads", options.heads},
               {"head_dim", options.head_dim},
               {"v_heads", options.v_heads},
               {"value_dim", options.value_dim}};
  for (const auto& g : given) {
    if (g.value < 0) usage(format("{}: {}={} is not positive", layer, g.name, g.value));
  }
  HeadSizes s;
  // Channels of the layer's width that one head takes.
  int64_t share = options.head_dim * shares;
  s.heads = options.heads > 0 ? options.heads : share == 0 ? env.heads : 0;
  if (share == 0) {
    share = options.heads > 0
                ? pieces(layer, "heads", env.width, options.heads, "give head_dim too")
                : env.head_dim;
  }
  if (s.heads == 0) {
    s.heads = pieces(layer, shares == 1 ? "head_dim" : "a head's share", env.width, share,
                     "give heads too");
  }
  if (share % shares != 0) {
    usage(format("{}: a head's {} channels are not a multiple of {}; give head_dim", layer, share,
                 shares));
  }
  s.key_dim = share / shares;
  s.value_heads = options.v_heads > 0 ? options.v_heads : s.heads;
  s.value_dim = options.value_dim > 0 ? options.value_dim : s.key_dim * expand_v;
  if (s.value_heads % s.heads != 0) {
    usage(format("{}: v_heads={} is not a multiple of heads={}", layer, s.value_heads, s.heads));
  }
  return s;
}

float key_scale(const HeadSizes& sizes) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(sizes.key_dim)));
}

void check_conv_taps(std::string_view layer, int64_t taps) {
  if (taps == 0 || (taps >= 2 && taps <= max_conv_taps())) return;
  usage(format("{}: conv={} is not 0 (no convolution) or 2 to {}", layer, taps, max_conv_taps()));
}

}  // namespace braid
