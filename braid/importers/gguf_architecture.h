#pragma once
// An architecture of GGUF files: gguf/<name>.cpp and one line in gguf/list.inc.

#include <span>
#include <string_view>
#include <vector>

#include "braid/importers/gguf_exchange.h"
#include "braid/importers/gguf_links.h"

namespace braid {

struct GgufArchitecture {
  const char* name;                      // general.architecture
  std::vector<const char*> model_types;  // of config.json; the first is what a file becomes
  // Every setting, whichever way it goes.
  void (*settings)(GgufExchange& x, GgufModel& model);
  // Every tensor, in the order a file holds them.
  void (*tensors)(GgufLinkList& links);
  bool always_tied = false;
};

std::span<const GgufArchitecture> gguf_architectures();
const GgufArchitecture& gguf_architecture(std::string_view name);  // of a GgufModel

}  // namespace braid
