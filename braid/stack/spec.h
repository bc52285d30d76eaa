#pragma once
// The stack expression as a tree (DESIGN section 1):
//   stack := item ("," item)*
//   item  := [ ["loop"] INT "x" ] ( layer | "(" stack ")" )
//   layer := mixer ("|" mixer)* | mixer ("+" mixer)* | channel | memory
//   each NAME [ "{" key "=" value ("," key "=" value)* "}" ]
// Blanks and newlines are free; '#' starts a comment that ends with its line. `x` and `loop` are
// reserved. A value is a bare word of letters, digits and _ . + - / :

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/layers/options.h"

namespace braid {

// One NAME{...}. Lines and columns count from 1 in the text it was read from (0 = made by code) and
// take no part in comparison.
struct LayerSpec {
  std::string name;
  Options options;
  int line = 0;
  int column = 0;
  bool operator==(const LayerSpec& other) const;
};

// What becomes of the outputs of mixers that run side by side (stack/parallel_layer.h).
enum class Join { kMean, kSum };  // a | b: the mean of the normed; a + b: the sum
char join_sign(Join join);

// Either a leaf (`layers` has one entry, or several that are joined) or a group (`items` not
// empty); never both.
struct StackItem {
  int64_t count = 1;
  bool loop = false;  // the `count` passes share parameters
  std::vector<LayerSpec> layers;
  std::vector<StackItem> items;
  Join join = Join::kMean;  // of several layers
  bool operator==(const StackItem& other) const;
};

struct StackSpec {
  std::vector<StackItem> items;
  bool operator==(const StackSpec& other) const;
};

enum class LayerKind { kMixer, kChannel, kMemory };

struct KnownLayer {
  std::string_view name;
  LayerKind kind;
};

// Loops and counts unrolled, parallel mixers counted one by one. Several times the deepest models
// there are.
constexpr int64_t kMaxSublayers = 10'000;
constexpr int kMaxNesting = 32;            // parentheses
constexpr size_t kMaxStackText = 1 << 20;  // bytes of an expression

// Reads an expression into its canonical tree (see `canonical`). Where `known` is not empty, other
// names and a join of anything but mixers are errors. Throws Error(kUsage): line, column and what
// would be right, then the line itself with a caret below.
StackSpec parse_stack(std::string_view text, std::span<const KnownLayer> known = {});

// The tree that says the same with the least: groups that run once are spliced into their parent, a
// group of one layer that runs once becomes that layer, and running once is never a loop.
StackSpec canonical(StackSpec spec);

// One line, of the canonical tree: parse_stack(print_stack(x)) == canonical(x). Options stay in the
// order they have; for a text to hash, let each layer rewrite its options (Layer::options) first.
std::string print_stack(const StackSpec& spec);

// What runs, in order. `N x` makes separate layers; `loop N x` runs the same ones again with states
// of their own.
struct FlatStack {
  struct Step {
    int64_t layer;  // into `layers`
    int64_t pass;  // how often this layer has run before: (layer, pass) owns one state per sequence
  };
  struct Leaf {
    std::vector<LayerSpec> layers;  // several = side by side
    Join join;
    std::string name() const;  // "gqa", "gqa|kda", "gqa+mamba2"
  };
  std::vector<Leaf> leaves;     // as written, in order
  std::vector<int64_t> layers;  // layers with parameters of their own, by first run -> leaf
  std::vector<Step> steps;
};

// Throws Error(kUsage) above kMaxSublayers, which only trees made by code can be.
FlatStack flatten(const StackSpec& spec);

// Sub-layers that run, parallel mixers counted one by one; kMaxSublayers + 1 for anything above the
// limit.
int64_t count_sublayers(const StackSpec& spec);
int64_t count_sublayers(const StackItem& item);

}  // namespace braid
