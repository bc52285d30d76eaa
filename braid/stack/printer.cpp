#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/stack/lexer.h"
#include "braid/stack/spec.h"

namespace braid {
namespace {

void print_layer(const LayerSpec& layer, std::string& out) {
  // A name or value that would not read back is a mistake of the code that made the tree.
  BRAID_CHECK(is_stack_name(layer.name));
  out += layer.name;
  if (layer.options.empty()) return;
  for (const Options::Item& item : layer.options.items()) {
    BRAID_CHECK(is_stack_key(item.key) && is_stack_value(item.value));
  }
  out += '{';
  out += layer.options.str();
  out += '}';
}

void print_items(const std::vector<StackItem>& items, std::string& out) {
  for (size_t i = 0; i < items.size(); ++i) {
    const StackItem& item = items[i];
    BRAID_CHECK(item.layers.empty() != item.items.empty());
    if (i > 0) out += ", ";
    if (item.loop) out += "loop ";
    if (item.count != 1) out += format("{} x ", item.count);
    for (size_t j = 0; j < item.layers.size(); ++j) {
      if (j > 0) out += format(" {} ", join_sign(item.join));
      print_layer(item.layers[j], out);
    }
    if (!item.items.empty()) {
      out += '(';
      print_items(item.items, out);
      out += ')';
    }
  }
}

}  // namespace

std::string print_stack(const StackSpec& spec) {
  std::string out;
  print_items(canonical(spec).items, out);
  return out;
}

}  // namespace braid
