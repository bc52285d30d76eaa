#include "braid/importers/fill.h"

#include <doctest/doctest.h>

#include <algorithm>

#include "braid/ops/weight.h"

namespace braid {
namespace {

// Tensors [64, 256] of ones, said to be stored as their names.
class Ones final : public TensorSource {
 public:
  explicit Ones(const std::vector<std::string>& stored) {
    for (const std::string& s : stored) tensors_.push_back({s, {64, 256}, s, "", 0, false, 0});
  }
  const std::string& path() const override { return path_; }
  const std::vector<SourceTensor>& tensors() const override { return tensors_; }
  void read(const SourceTensor&, int64_t, int64_t rows, int64_t columns,
            float* out) const override {
    std::fill_n(out, rows * columns, 1.0f);
  }
  std::span<const std::byte> raw(const SourceTensor&) const override { return {}; }
  std::shared_ptr<const void> owner(const SourceTensor&) const override { return nullptr; }

 private:
  std::string path_ = "ones";
  std::vector<SourceTensor> tensors_;  // by name
};

struct Filled {
  WeightType type;
  std::vector<std::string> notes;
};

// One matrix of all those tensors, one under the other.
Filled filled(const std::vector<std::string>& stored, const FillOptions& options = {}) {
  const Context ctx;
  const Ones source(stored);
  const Shape shape{64 * std::ssize(stored), 256};
  TensorMap map;
  TensorMap::Use use;
  use.parameter = "w";
  use.shape = shape;
  use.rows = shape[0];
  use.columns = shape[1];
  for (size_t i = 0; i < stored.size(); ++i) {
    map.tensors.push_back({stored[i], {64, 256}, false, 64, 256});
    use.runs.push_back({i, 64 * static_cast<int64_t>(i), 0, 64, 1});
  }
  map.parameters.push_back(use);
  ParameterSet set;
  Parameter& p = set.add("w", ParamRole::kMatrix, Tensor::zeros(ctx, shape));
  const std::vector<std::string> notes = fill_parameters(ctx, source, map, set, options);
  return {p.weight ? p.weight->type() : WeightType::kF32, notes};
}

TEST_CASE("a matrix made of several tensors is kept in the widest of their types") {
  CHECK(filled({"Q4_0"}).type == WeightType::kQ4);
  CHECK(filled({"Q4_0", "Q4_K"}).type == WeightType::kQ4Min);
  CHECK(filled({"Q4_0", "Q6_K"}).type == WeightType::kQ8);
  CHECK(filled({"Q4_0", "Q8_0"}).type == WeightType::kQ8);
  CHECK(filled({"BF16", "Q8_0"}).type == WeightType::kBF16);
  CHECK(filled({"BF16", "F32"}).type == WeightType::kF32);
}

TEST_CASE("filling tells how far it is, in bytes of the types that are kept") {
  FillOptions options;
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  options.progress = [&](uint64_t done, uint64_t all) { seen.emplace_back(done, all); };
  filled({"BF16"}, options);
  CHECK(seen == std::vector<std::pair<uint64_t, uint64_t>>{{64 * 256 * 2, 64 * 256 * 2}});
}

TEST_CASE("blocks kept as others are a note, unless asked for") {
  const char* const exact = "; --weights f32 keeps them exact";
  CHECK(filled({"Q8_0"}).notes.empty());
  CHECK(filled({"Q4_K"}).notes.empty());
  CHECK(filled({"F16"}).notes.empty());
  CHECK(filled({"Q4_0", "Q8_0"}).notes.empty());  // q8 holds both
  FillOptions options;
  options.weights = WeightType::kQ8;
  CHECK(filled({"Q6_K"}, options).notes.empty());
  const Filled one = filled({"Q6_K"});
  REQUIRE(one.notes.size() == 1);
  CHECK(one.notes[0] == std::string("1 matrices stored as Q6_K are kept as q8") + exact);
  const Filled two = filled({"Q4_K", "Q6_K"});
  REQUIRE(two.notes.size() == 1);
  CHECK(two.notes[0] == std::string("1 matrices stored as Q4_K are kept as q8, 1 matrices stored "
                                    "as Q6_K are kept as q8") +
                            exact);
}

}  // namespace
}  // namespace braid
