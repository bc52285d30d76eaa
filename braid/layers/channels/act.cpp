#include "braid/layers/channels/act.h"

#include <string>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

const char* act_name(Act act) {
  switch (act) {
    case Act::kSilu:
      return "silu";
    case Act::kGelu:
      return "gelu";
    case Act::kGeluTanh:
      return "gelu_tanh";
    case Act::kRelu2:
      return "relu2";
    case Act::kClamped:
      return "clamped";
  }
  return "";
}

}  // namespace

Act read_act(std::string_view layer, std::string_view name, std::initializer_list<Act> allowed) {
  std::string names;
  for (const Act act : allowed) {
    if (name == act_name(act)) return act;
    names += (names.empty() ? "" : ", ") + std::string(act_name(act));
  }
  throw Error(ErrorKind::kUsage, format("{}: act={} is none of {}", layer, printable(name), names));
}

}  // namespace braid
