#include "braid/importers/tensor_table.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/base/strings.h"

namespace braid {
namespace {

// What a parameter's path says: "layers.7.moe.gate.weight" is "channel.moe.gate.weight" of layer 3.
struct Place {
  std::string path;
  int64_t layer = -1;
};

Place place_of(const std::string& parameter, int64_t slots) {
  constexpr std::string_view kLayers = "layers.";
  if (!parameter.starts_with(kLayers)) return {parameter, -1};
  const size_t dot = parameter.find('.', kLayers.size());
  const std::optional<int64_t> slot =
      parse_int(std::string_view(parameter).substr(kLayers.size(), dot - kLayers.size()));
  BRAID_CHECK(dot != std::string::npos && slot);
  return {(*slot % slots == 0 ? "mixer." : "channel.") + parameter.substr(dot + 1), *slot / slots};
}

// The text that '*' stands for when `path` fits `pattern`.
std::optional<std::string> fit(std::string_view path, std::string_view pattern) {
  const size_t star = pattern.find('*');
  if (star == std::string_view::npos) {
    return path == pattern ? std::optional<std::string>("") : std::nullopt;
  }
  const std::string_view before = pattern.substr(0, star), after = pattern.substr(star + 1);
  if (path.size() < before.size() + after.size() || !path.starts_with(before) ||
      !path.ends_with(after)) {
    return std::nullopt;
  }
  return std::string(path.substr(before.size(), path.size() - before.size() - after.size()));
}

std::string replaced(std::string text, std::string_view what, const std::string& with) {
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + with.size()))
    text.replace(at, what.size(), with);
  return text;
}

// A row's tensor with {P} and {H} filled in, below the layers where it is of one.
std::string spelt(const TensorNames& names, std::string tensor, bool of_layer) {
  if (of_layer && tensor.front() != '{') tensor = "{P}" + names.layers + "{i}." + tensor;
  return replaced(replaced(std::move(tensor), "{P}", names.prefix), "{H}", names.head);
}

struct Builder {
  const TensorNames& names;
  TensorMap& map;
  std::map<std::string, size_t, std::less<>> by_name;

  std::string tensor_name(const TensorRow& row, const std::string& pattern, const Place& place,
                          const std::string& star, int64_t expert) const {
    std::string name = spelt(names, pattern, place.layer >= 0);
    name = replaced(name, "{i}", format("{}", place.layer));
    name = replaced(name, "{e}", format("{}", expert));
    BRAID_CHECK((name.find('*') != std::string::npos) ==
                (row.parameter.find('*') != std::string::npos));
    return replaced(name, "*", star);
  }

  // A tensor of rows x columns (as a parameter sees it); `lead` matrices of them where transposed.
  size_t tensor(const std::string& name, int64_t rows, int64_t columns, const Transform& t,
                const Shape& plain, int64_t lead) {
    if (const auto found = by_name.find(name); found != by_name.end()) {
      const TensorMap::Entry& e = map.tensors[found->second];
      BRAID_CHECK(e.rows == rows && e.columns == columns && e.transposed == t.transposed);
      return found->second;
    }
    TensorMap::Entry e{name, {}, t.transposed, rows, columns};
    if (!t.shape.empty()) {
      int64_t known = 1;
      for (const int64_t n : t.shape) known *= n < 0 ? 1 : n;
      for (const int64_t n : t.shape) e.shape.push_back(n < 0 ? rows * columns / known : n);
    } else if (t.transposed) {
      if (lead > 1 || plain.rank() == 3) e.shape.push_back(lead);
      e.shape.push_back(columns);
      e.shape.push_back(rows / lead);
    } else {
      for (int i = 0; i < plain.rank(); ++i) e.shape.push_back(plain[i]);
    }
    by_name[name] = map.tensors.size();
    map.tensors.push_back(std::move(e));
    return map.tensors.size() - 1;
  }
};

// [rows, columns] of a parameter: vectors and what is split by element have one column.
void set_size(TensorMap::Use& use, const Transform& t) {
  const bool by_element = use.shape.rank() == 1 || t.by_element;
  use.columns = by_element ? 1 : use.shape[-1];
  use.rows = use.columns == 0 ? 0 : use.shape.count() / use.columns;
}

Shape with_rows(const Shape& shape, int64_t rows) {
  Shape out = shape;
  out[0] = rows;
  return out;
}

void add_groups(Builder& b, const TensorRow& row, const std::string& name, TensorMap::Use& use) {
  const Transform& t = row.transform;
  const int64_t period = std::accumulate(t.parts.begin(), t.parts.end(), int64_t{0});
  const size_t id =
      b.tensor(name, t.groups * period, use.columns, t, with_rows(use.shape, t.groups * period), 1);
  int64_t to = 0;
  for (const size_t part : t.take) {
    int64_t skip = 0;
    for (size_t p = 0; p < part; ++p) skip += t.parts[p];
    for (int64_t g = 0; g < t.groups; ++g) {
      use.runs.push_back({id, to, g * period + skip, t.parts[part], 1});
      to += t.parts[part];
    }
  }
  BRAID_CHECK(to == use.rows);
}

void add_interleaved(Builder& b, const TensorRow& row, const std::string& name,
                     TensorMap::Use& use) {
  const int64_t groups = row.transform.groups, half = use.rows / groups / 2;
  BRAID_CHECK(groups * half * 2 == use.rows);
  const size_t id = b.tensor(name, use.rows, use.columns, row.transform, use.shape, groups);
  for (int64_t g = 0; g < groups; ++g) {
    for (int64_t side = 0; side < 2; ++side) {
      use.runs.push_back({id, (2 * g + side) * half, 2 * g * half + side, half, 2});
    }
  }
}

void add_experts(Builder& b, const TensorRow& row, const Place& place, const std::string& star,
                 TensorMap::Use& use) {
  BRAID_CHECK(use.shape.rank() == 3);
  const bool pairs = row.transform.kind == Transform::Kind::kExpertPairs;
  const int64_t n = use.shape[0], rows = use.shape[1] / (pairs ? 2 : 1);
  const Shape shape = {rows, use.columns};
  int64_t to = 0;
  for (int64_t e = 0; e < n; ++e) {
    for (int half = 0; half < (pairs ? 2 : 1); ++half) {
      const std::string name =
          b.tensor_name(row, half == 0 ? row.tensor : row.second, place, star, e);
      use.runs.push_back(
          {b.tensor(name, rows, use.columns, row.transform, shape, 1), to, 0, rows, 1});
      to += rows;
    }
  }
}

void add_whole(Builder& b, const TensorRow& row, const std::string& name, TensorMap::Use& use) {
  const int64_t lead = row.transform.transposed && use.shape.rank() == 3 ? use.shape[0] : 1;
  const size_t id = b.tensor(name, use.rows, use.columns, row.transform, use.shape, lead);
  use.runs.push_back({id, 0, 0, use.rows, 1});
  use.whole = !row.transform.transposed;
}

TensorMap::Use use_of(Builder& b, std::span<const TensorRow> table, const Parameter& p) {
  const Place place = place_of(p.name, b.names.slots);
  for (const TensorRow& row : table) {
    std::optional<std::string> star = fit(place.path, row.parameter);
    if (!star) star = fit(p.name, row.parameter);
    if (!star) continue;
    TensorMap::Use use;
    use.parameter = p.name;
    use.shape = p.value.shape();
    use.added = row.transform.added;
    set_size(use, row.transform);
    const auto name = [&] { return b.tensor_name(row, row.tensor, place, *star, 0); };
    switch (row.transform.kind) {
      case Transform::Kind::kWhole:
        add_whole(b, row, name(), use);
        break;
      case Transform::Kind::kGroups:
        add_groups(b, row, name(), use);
        break;
      case Transform::Kind::kInterleaved:
        add_interleaved(b, row, name(), use);
        break;
      case Transform::Kind::kExperts:
      case Transform::Kind::kExpertPairs:
        add_experts(b, row, place, *star, use);
        break;
    }
    return use;
  }
  throw Error(ErrorKind::kInternal, format("no tensor is known for the parameter {}", p.name));
}

}  // namespace

void settle_spellings(std::vector<TensorRow>& table, const TensorNames& names,
                      FunctionRef<bool(const std::string& pattern)> has) {
  const auto there = [&](const TensorRow& row) {
    const bool of_layer = row.parameter.starts_with("mixer.") ||
                          row.parameter.starts_with("channel.") ||
                          row.parameter.starts_with("layers.");
    const std::string name = spelt(names, row.tensor, of_layer);
    return has(replaced(replaced(name, "{i}", "#"), "{e}", "#"));
  };
  for (size_t i = 0; i < table.size(); ++i) {
    const std::string parameter = table[i].parameter;
    const auto same = [&](const TensorRow& r) { return r.parameter == parameter; };
    if (std::count_if(table.begin(), table.end(), same) == 1) continue;
    const auto found = std::find_if(table.begin(), table.end(),
                                    [&](const TensorRow& r) { return same(r) && there(r); });
    const TensorRow kept = found == table.end() ? table[i] : *found;
    table.erase(std::remove_if(table.begin() + static_cast<ptrdiff_t>(i), table.end(), same),
                table.end());
    table.insert(table.begin() + static_cast<ptrdiff_t>(i), kept);
  }
}

Transform copied() { return {}; }

Transform shaped(std::vector<int64_t> shape) {
  Transform t;
  t.shape = std::move(shape);
  return t;
}

Transform transposed() {
  Transform t;
  t.transposed = true;
  return t;
}

Transform part_of(std::vector<int64_t> parts, size_t i, bool transposed) {
  Transform t = grouped(1, std::move(parts), {i});
  t.transposed = transposed;
  return t;
}

Transform grouped(int64_t groups, std::vector<int64_t> parts, std::vector<size_t> take) {
  Transform t;
  t.kind = Transform::Kind::kGroups;
  t.groups = groups;
  t.parts = std::move(parts);
  t.take = std::move(take);
  return t;
}

Transform interleaved(int64_t groups, bool transposed) {
  Transform t;
  t.kind = Transform::Kind::kInterleaved;
  t.groups = groups;
  t.transposed = transposed;
  return t;
}

Transform interleaved_elements(int64_t groups) {
  Transform t = interleaved(groups);
  t.by_element = true;
  return t;
}

Transform experts() {
  Transform t;
  t.kind = Transform::Kind::kExperts;
  return t;
}

Transform expert_pairs() {
  Transform t;
  t.kind = Transform::Kind::kExpertPairs;
  return t;
}

const TensorMap::Entry* TensorMap::find(std::string_view name) const {
  for (const Entry& e : tensors) {
    if (e.name == name) return &e;
  }
  return nullptr;
}

TensorMap map_tensors(std::span<const TensorRow> table, const ParameterSet& parameters,
                      const TensorNames& names) {
  TensorMap map;
  Builder builder{names, map, {}};
  for (const Parameter& p : parameters) map.parameters.push_back(use_of(builder, table, p));
  return map;
}

}  // namespace braid
