#include "braid/state/state_file.h"

#include <doctest/doctest.h>

#include <cstring>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

using testing::ScratchFolder;

void write_state(const Context& ctx, const std::string& path) {
  StateFileWriter out;
  out.tensor("layers.0.s", Tensor::from(ctx, {2, 2}, std::vector<float>{1, 2, 3, 4}));
  out.tensor("layers.1.window", Tensor::from(ctx, {3}, std::vector<float>{5, 6, 7}));
  out.integer("layers.0.length", int64_t{1} << 50);
  out.integer("layers.1.length", -3);
  out.text("stack", "2 x (kda, swiglu)");
  out.write(path);
}

void read_state(const Context& ctx, const std::string& path) {
  StateFileReader in(ctx, path);
  const Tensor s = in.tensor("layers.0.s", {2, -1}, DType::kF32);
  CHECK(s.shape() == Shape{2, 2});
  CHECK(s.data()[3] == 4);
  CHECK(in.tensor("layers.1.window", {3}, DType::kF32).data()[2] == 7);
  CHECK(in.integer("layers.0.length") == int64_t{1} << 50);
  CHECK(in.integer("layers.1.length") == -3);
  CHECK(in.text("stack") == "2 x (kda, swiglu)");
}

TEST_CASE("a state file gives back what was put in") {
  const Context ctx;
  const ScratchFolder dir("state");
  write_state(ctx, dir / "s.state");
  read_state(ctx, dir / "s.state");
  StateFileReader in(ctx, dir / "s.state");
  CHECK_THROWS_WITH_AS(in.tensor("layers.9.s", {2}, DType::kF32), doctest::Contains("layers.9.s"),
                       Error);
  CHECK_THROWS_WITH_AS(in.tensor("layers.0.s", {2, 3}, DType::kF32),
                       doctest::Contains("layers.0.s is f32 [2, 2], the model needs f32 [2, 3]"),
                       Error);
  CHECK_THROWS_AS(in.tensor("layers.0.s", {2, 2}, DType::kI64), Error);
  CHECK_THROWS_AS(in.integer("layers.9.length"), Error);
}

TEST_CASE("a state file cut at any byte or with any bit flipped is refused") {
  const Context ctx;
  const ScratchFolder dir("state");
  const std::string path = dir / "s.state";
  write_state(ctx, path);
  const std::string whole = read_file(path);
  for (size_t i = 0; i < whole.size(); ++i) {
    CAPTURE(i);
    write_file(path, whole.substr(0, i));
    CHECK_THROWS_AS(StateFileReader(ctx, path), Error);
    std::string flipped = whole;
    flipped[i] = static_cast<char>(flipped[i] ^ (1 << (i % 8)));
    write_file(path, flipped);
    try {
      read_state(ctx, path);  // only what does not matter to the reader may pass
    } catch (const Error& e) {
      CHECK(e.kind() == ErrorKind::kBadInput);
    }
  }
}

TEST_CASE("other files and other versions are named as such") {
  const Context ctx;
  const ScratchFolder dir("state");
  SafetensorsWriter plain;
  plain.write(dir / "plain");
  CHECK_THROWS_WITH_AS(StateFileReader(ctx, dir / "plain"),
                       doctest::Contains("is not a saved braid state"), Error);
  write_state(ctx, dir / "s");
  std::string text = read_file(dir / "s");
  const std::string key = "\"braid_state_version\":\"";
  text[text.find(key) + key.size()] = '7';
  write_file(dir / "s", text);
  CHECK_THROWS_WITH_AS(StateFileReader(ctx, dir / "s"),
                       doctest::Contains("version 7; this braid reads version 1"), Error);
}

}  // namespace
}  // namespace braid
