#pragma once
// Which tensors of a checkpoint a parameter is made of: one table per family, read in both
// directions. A parameter is seen as rows of its last dimension; every transform is a rule that
// says which row of which tensor a row is, so that what can be imported can be exported.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "braid/base/function_ref.h"
#include "braid/ops/parameter.h"

namespace braid {

// How a parameter's rows lie in the tensor, or in the tensors of each expert.
struct Transform {
  enum class Kind {
    kWhole,        // the same rows
    kGroups,       // the tensor is `groups` groups of `parts` rows; the parameter has the rows of
                   // `take`, part by part, the groups of one part after another
    kInterleaved,  // `groups` groups: first half of a group's rows even, second half odd
    kExperts,      // {e}: one tensor an expert, one after another
    kExpertPairs,  // {e}: of each expert the first tensor's rows, then the second's
  };
  Kind kind = Kind::kWhole;
  int64_t groups = 1;
  std::vector<int64_t> parts;
  std::vector<size_t> take;
  bool transposed = false;     // the tensor is [.., in, out]
  std::vector<int64_t> shape;  // of the tensor where it is not the parameter's; -1 = the rest
  bool by_element = false;     // rows of one number each, as vectors always are
  double added = 0;            // the parameter is the tensor plus this
};

Transform copied();
Transform shaped(std::vector<int64_t> shape);  // the same numbers in another shape
Transform transposed();
// Rows [sum of parts before i, + parts[i]) of a tensor [sum of parts, ..] (or [.., sum]
// transposed).
Transform part_of(std::vector<int64_t> parts, size_t i, bool transposed = false);
Transform grouped(int64_t groups, std::vector<int64_t> parts, std::vector<size_t> take);
Transform interleaved(int64_t groups, bool transposed = false);
Transform interleaved_elements(int64_t groups);  // of vectors, [groups, 2 n]
Transform experts();                             // "experts.{e}.down_proj.weight"
Transform expert_pairs();  // "experts.{e}.gate_proj.weight" and "experts.{e}.up_proj.weight"

// `parameter` and `tensor` may hold {i} (the family's layer), {e} (an expert) and one '*' that
// stands for the same text in both. In parameters "mixer." and "channel." are the two slots of
// layer {i}: layers.2i. and layers.2i+1.; where a layer is one slot (TensorNames::slots) it is
// "mixer."; a row of one layer alone names its parameter in full, "layers.6.gqa.q_proj.weight", and
// stands before the rows of all. Such a row's tensor stands below "{P}layers.{i}." unless it begins
// with '{'. {P} is the checkpoint's prefix ("model."), {H} the head's.
struct TensorRow {
  std::string parameter;
  std::string tensor;
  Transform transform;
  std::string second;  // kExpertPairs
};

// `count` rows of a parameter, from `to` on, are the rows from, from + step, ... of a tensor.
struct RowRun {
  size_t tensor = 0;  // into TensorMap::tensors
  int64_t to = 0, from = 0, count = 0;
  int64_t step = 1;
};

struct TensorMap {
  struct Entry {
    std::string name;
    std::vector<int64_t> shape;  // in the file
    bool transposed = false;
    int64_t rows = 0, columns = 0;  // as a parameter sees it, transposition undone
  };
  struct Use {
    std::string parameter;
    Shape shape;
    int64_t rows = 0, columns = 0;
    double added = 0;
    std::vector<RowRun> runs;  // by `to`, without a hole
    bool whole = false;        // one run, every row of one tensor that is not transposed
  };
  std::vector<Entry> tensors;
  std::vector<Use> parameters;  // in the order of the model's
  const Entry* find(std::string_view name) const;
};

struct TensorNames {
  std::string prefix = "model.";   // {P}
  std::string head = "";           // {H}
  std::string layers = "layers.";  // between {P} and the layer's number
  int64_t slots = 2;               // sub-layers of a layer
};

// Rows of the same parameter are ways to spell its tensor: keeps the one that `has` finds by a
// pattern of its name (base/strings.h), and the first of those that it does not find.
void settle_spellings(std::vector<TensorRow>& table, const TensorNames& names,
                      FunctionRef<bool(const std::string& pattern)> has);

// The map of a model's parameters. Throws InternalError for a parameter without a row: a family
// knows every layer it puts into a stack.
TensorMap map_tensors(std::span<const TensorRow> table, const ParameterSet& parameters,
                      const TensorNames& names);

}  // namespace braid
