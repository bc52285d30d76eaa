#include "braid/stack/spec.h"

#include <algorithm>

#include "braid/base/error.h"
#include "braid/base/format.h"

namespace braid {
namespace {

bool same_options(const Options& a, const Options& b) {
  return std::equal(a.items().begin(), a.items().end(), b.items().begin(), b.items().end(),
                    [](const Options::Item& x, const Options::Item& y) {
                      return x.key == y.key && x.value == y.value;
                    });
}

std::vector<StackItem> canonical_items(std::vector<StackItem> items) {
  std::vector<StackItem> out;
  for (StackItem& item : items) {
    if (item.count == 1) item.loop = false;
    if (item.layers.size() < 2) item.join = Join::kMean;
    BRAID_CHECK(item.layers.empty() || item.items.empty());
    item.items = canonical_items(std::move(item.items));
    if (item.layers.empty() && item.items.empty()) continue;
    const bool group = !item.items.empty();
    if (group && item.count == 1) {
      std::move(item.items.begin(), item.items.end(), std::back_inserter(out));
      continue;
    }
    if (group && item.items.size() == 1 && item.items[0].count == 1) {
      item.layers = std::move(item.items[0].layers);
      item.join = item.items[0].join;
      item.items.clear();
    }
    out.push_back(std::move(item));
  }
  return out;
}

// Counts saturate here, so that nothing overflows.
constexpr int64_t kTooMany = kMaxSublayers + 1;

int64_t count_items(const std::vector<StackItem>& items) {
  int64_t total = 0;
  for (const StackItem& item : items) total = std::min(total + count_sublayers(item), kTooMany);
  return total;
}

class Flattener {
 public:
  explicit Flattener(FlatStack& out) : out_(out) {}

  // Runs `items` with parameters numbered from `base` on; returns the number behind their last.
  // `leaf` walks over the leaves as written.
  int64_t run(const std::vector<StackItem>& items, int64_t base, int64_t& leaf) {
    for (const StackItem& item : items) {
      if (item.count < 1) {
        throw Error(ErrorKind::kUsage, format("stack: count {}; at least 1", item.count));
      }
      const int64_t first_leaf = leaf;
      int64_t next = base;
      for (int64_t i = 0; i < item.count; ++i) {
        leaf = first_leaf;
        const int64_t start = item.loop ? base : next;
        next = item.items.empty() ? run_leaf(item, start, leaf) : run(item.items, start, leaf);
      }
      base = next;
    }
    return base;
  }

 private:
  int64_t run_leaf(const StackItem& item, int64_t layer, int64_t& leaf) {
    if (leaf == static_cast<int64_t>(out_.leaves.size())) {
      out_.leaves.push_back({item.layers, item.join});
    }
    if (layer == static_cast<int64_t>(out_.layers.size())) {
      out_.layers.push_back(leaf);
      passes_.push_back(0);
    }
    out_.steps.push_back({layer, passes_[static_cast<size_t>(layer)]++});
    ++leaf;
    return layer + 1;
  }

  FlatStack& out_;
  std::vector<int64_t> passes_;
};

}  // namespace

char join_sign(Join join) { return join == Join::kSum ? '+' : '|'; }

std::string FlatStack::Leaf::name() const {
  std::string out;
  for (const LayerSpec& layer : layers) {
    if (!out.empty()) out += join_sign(join);
    out += layer.name;
  }
  return out;
}

bool LayerSpec::operator==(const LayerSpec& other) const {
  return name == other.name && same_options(options, other.options);
}

bool StackItem::operator==(const StackItem& other) const {
  return count == other.count && loop == other.loop && layers == other.layers &&
         items == other.items && join == other.join;
}

bool StackSpec::operator==(const StackSpec& other) const { return items == other.items; }

StackSpec canonical(StackSpec spec) { return {canonical_items(std::move(spec.items))}; }

int64_t count_sublayers(const StackItem& item) {
  const int64_t own = static_cast<int64_t>(item.layers.size());
  const int64_t once = std::min(own + count_items(item.items), kTooMany);
  return std::min(once * std::clamp<int64_t>(item.count, 0, kTooMany), kTooMany);
}

int64_t count_sublayers(const StackSpec& spec) { return count_items(spec.items); }

FlatStack flatten(const StackSpec& spec) {
  if (count_sublayers(spec) > kMaxSublayers) {
    throw Error(
        ErrorKind::kUsage,
        format("stack: more than {} sub-layers once counts and loops are unrolled", kMaxSublayers));
  }
  FlatStack out;
  int64_t leaf = 0;
  Flattener(out).run(canonical(spec).items, 0, leaf);
  return out;
}

}  // namespace braid
