#pragma once
// Layers that read other layers by name (YOCO 2405.05254, CLA 2405.12981, SambaY 2507.06607, the
// value residual of RWKV-7): a publisher `gqa{as=kv}` hands on values of this forward's tokens, a
// later reader `gqa{of=kv}` takes those of the nearest publisher before it.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "braid/core/tensor.h"
#include "braid/state/layer_state.h"

namespace braid {

struct KeySelection;  // ops/selected_attention.h

// What is known of a published value when the model is built.
struct LinkShape {
  std::string kind;            // what it is, a reader's check: "kv", "memory", "value", "selection"
  std::vector<int64_t> sizes;  // as the kind says
  bool operator==(const LinkShape& other) const = default;
};

// The names of a model that is being built, in the order of its expression.
class LinkTable {
 public:
  // From here on `name` means this layer's value.
  void declare(const std::string& name, LinkShape shape);
  // Throws Error(kUsage) that lists the names there are when no layer before has published `name`,
  // or one of another kind; `layer` is the reader's name.
  const LinkShape& find(std::string_view layer, const std::string& name, std::string_view kind);
  bool has(const std::string& name) const { return shapes_.contains(name); }

  int64_t declared() const { return declared_; }
  int64_t read() const { return read_; }

 private:
  std::map<std::string, LinkShape> shapes_;
  int64_t declared_ = 0, read_ = 0;
};

// find() for a layer that may stand alone (table null), where nothing is published.
const LinkShape& find_link(LinkTable* table, std::string_view layer, const std::string& name,
                           std::string_view kind);

// What one forward hands on under a name.
struct LinkValue {
  std::vector<Tensor> tensors;      // of this call's tokens, [T, ...]; gradients flow through them
  std::vector<LayerState*> states;  // the publisher's, this call's tokens included; empty without
  std::shared_ptr<const KeySelection> keys;  // what each of this call's tokens attends to
};

// The values of one forward, by name.
class Links {
 public:
  void put(const std::string& name, LinkValue value) { values_[name] = std::move(value); }
  const LinkValue& get(const std::string& name) const;
  // What a publisher does once no reader comes after: a ring forgets what only this call saw.
  void at_end(std::function<void()> action) { at_end_.push_back(std::move(action)); }
  void finish();

 private:
  std::map<std::string, LinkValue> values_;
  std::vector<std::function<void()>> at_end_;
};

// The same for the definitions in double precision: one sequence, one entry per tensor.
class ReferenceLinks {
 public:
  void put(const std::string& name, std::vector<std::vector<double>> value) {
    values_[name] = std::move(value);
  }
  const std::vector<std::vector<double>>& get(const std::string& name) const;

 private:
  std::map<std::string, std::vector<std::vector<double>>> values_;
};

}  // namespace braid
