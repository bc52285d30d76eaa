#include "braid/kernels/attention/rounds.h"

#include <cstdlib>
#include <string_view>

namespace braid {
namespace {

bool allowed() {
  const char* wanted = std::getenv("BRAID_ATTENTION");
  return wanted == nullptr || std::string_view(wanted) != "f32";
}

}  // namespace

bool attention_rounds(const AttentionConfig& config) {
  static const bool may = allowed();
  return config.rounded && may;
}

}  // namespace braid
