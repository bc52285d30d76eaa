#include "braid/kernels/attention/rounds.h"

#include "braid/base/environment.h"

namespace braid {

bool attention_rounds(const AttentionConfig& config) {
  return config.rounded && environment().attention_in_int16;
}

}  // namespace braid
