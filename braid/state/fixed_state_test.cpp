// The states of fixed size: equal after every round trip, independent after every copy.

#include <doctest/doctest.h>

#include <algorithm>
#include <map>
#include <string>

#include "braid/state/conv_state.h"
#include "braid/state/group_state.h"
#include "braid/state/matrix_state.h"

namespace braid {
namespace {

class MemoryFile final : public StateWriter, public StateReader {
 public:
  void tensor(std::string_view name, const Tensor& value) override {
    CHECK(tensors.emplace(name, std::vector<float>(value.data(), value.data() + value.count()))
              .second);
  }
  void integer(std::string_view name, int64_t value) override {
    CHECK(integers.emplace(name, value).second);
  }
  Tensor tensor(std::string_view name, Shape shape, DType) override {
    return Tensor::from(ctx, shape, tensors.at(std::string(name)));
  }
  int64_t integer(std::string_view name) override { return integers.at(std::string(name)); }

  Context ctx;
  std::map<std::string, std::vector<float>> tensors;
  std::map<std::string, int64_t> integers;
};

template <typename State>
void battery(State& state, State& fresh, const Tensor& (State::*content)() const) {
  const auto equal = [&](const LayerState& a, const LayerState& b) {
    const Tensor& x = (static_cast<const State&>(a).*content)();
    const Tensor& y = (static_cast<const State&>(b).*content)();
    return a.length() == b.length() && std::equal(x.data(), x.data() + x.count(), y.data());
  };
  const Tensor& values = (state.*content)();
  CHECK(state.bytes() == static_cast<size_t>(values.count()) * sizeof(float));
  for (int64_t i = 0; i < values.count(); ++i) values.data()[i] = static_cast<float>(i + 1);
  state.advance(5);
  const auto copy = state.snapshot();
  CHECK(copy->kind() == state.kind());
  CHECK(equal(*copy, state));
  values.data()[0] = -1;
  CHECK(!equal(*copy, state));
  state.restore(*copy);
  CHECK(equal(*copy, state));

  MemoryFile file;
  state.save(file, "a.");
  CHECK(file.integers.count("a.length") == 1);
  fresh.load(file, "a.");
  CHECK(equal(fresh, state));
  file.integers["a.length"] = -1;
  CHECK_THROWS_WITH_AS(fresh.load(file, "a."), "a.length is -1, expected 0 or more", Error);

  state.reset();
  CHECK(state.length() == 0);
  CHECK(std::all_of(values.data(), values.data() + values.count(), [](float v) { return v == 0; }));
}

}  // namespace

TEST_CASE("conv state") {
  Context ctx;
  ConvState a(ctx, 4, 6), b(ctx, 4, 6);
  CHECK(a.window().shape() == (Shape{3, 6}));
  battery(a, b, &ConvState::window);
}

TEST_CASE("matrix state") {
  Context ctx;
  MatrixState a(ctx, 2, 3, 4), b(ctx, 2, 3, 4);
  CHECK(a.matrix().shape() == (Shape{2, 3, 4}));
  battery(a, b, &MatrixState::matrix);
  CHECK_THROWS_AS(a.restore(ConvState(ctx, 4, 6)), Error);
}

TEST_CASE("members of a group that have seen different lengths are refused") {
  const Context ctx;
  std::vector<std::unique_ptr<LayerState>> members;
  members.push_back(std::make_unique<MatrixState>(ctx, 1, 2, 2));
  members.push_back(std::make_unique<ConvState>(ctx, 3, 2));
  GroupState group(std::move(members));
  MemoryFile file;
  group.save(file, "a.");
  group.load(file, "a.");
  file.integers["a.1.length"] = 7;
  CHECK_THROWS_WITH_AS(group.load(file, "a."),
                       "a.1. is of another length than the 0 tokens of a.0.", Error);
}

}  // namespace braid
