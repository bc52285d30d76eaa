#include "braid/infer/sequence_file.h"

#include <doctest/doctest.h>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/infer/generate.h"
#include "braid/state/state_file.h"
#include "braid/testing/scratch_folder.h"

namespace braid {
namespace {

ModelSettings settings() {
  ModelSettings s;
  s.stack = parse_stack("kda, gqa", known_layers());
  s.width = 32;
  return s;
}

// Writes a state with one of its numbers changed before the digest is made.
class Changed final : public StateWriter {
 public:
  Changed(StateFileWriter& out, std::string_view name) : out_(out), name_(name) {}
  void tensor(std::string_view name, const Tensor& value) override { out_.tensor(name, value); }
  void integer(std::string_view name, int64_t value) override {
    out_.integer(name, name == name_ ? value + 1 : value);
  }

 private:
  StateFileWriter& out_;
  std::string_view name_;
};

TEST_CASE("a state that is refused leaves the sequence as it was") {
  const Context ctx;
  Model model(ctx, settings());
  const testing::ScratchFolder dir("sequence");
  const std::string good = dir / "good", bad = dir / "bad", mine = dir / "mine";
  SequenceState sequence = model.new_sequence(ctx), other = model.new_sequence(ctx);
  advance(ctx, model, sequence, byte_tokens("abc"));
  advance(ctx, model, other, byte_tokens("de"));
  save_sequence(good, model, sequence);
  save_sequence(mine, model, other);
  const std::string before = read_file(mine);
  // The last to be looked at: all else is loaded by then.
  for (const char* name : {"layers.1.length", "layers.0.0.length", "layers.0.1.length"}) {
    CAPTURE(name);
    const StateFileReader in(ctx, good);
    StateFileWriter out;
    out.text("stack", in.text("stack"));
    out.text("model", in.text("model"));
    Changed changed(out, name);
    sequence.save(changed);
    out.write(bad);
    CHECK_THROWS_WITH_AS(load_sequence(ctx, bad, model, other), doctest::Contains(bad.c_str()),
                         Error);
    save_sequence(mine, model, other);
    CHECK(read_file(mine) == before);
  }
  load_sequence(ctx, good, model, other);
  save_sequence(mine, model, other);
  CHECK(read_file(mine) == read_file(good));
}

TEST_CASE("a state belongs to the weights and what layers read, not to what is said of the model") {
  const Context ctx;
  Model model(ctx, settings());
  SequenceState sequence = model.new_sequence(ctx);
  advance(ctx, model, sequence, byte_tokens("abc"));
  const testing::ScratchFolder dir("identity");
  save_sequence(dir / "state", model, sequence);
  ModelSettings same = settings(), other = settings();
  same.max_position_embeddings = 4096;
  other.norm_eps = 1e-3;
  for (const auto& [s, fits] : {std::pair(same, true), {other, false}}) {
    const Model copy(ctx, s);
    SequenceState loaded = copy.new_sequence(ctx);
    if (fits) {
      load_sequence(ctx, dir / "state", copy, loaded);
      CHECK(loaded.tokens == sequence.tokens);
    } else {
      CHECK_THROWS_AS(load_sequence(ctx, dir / "state", copy, loaded), Error);
    }
  }
}

}  // namespace
}  // namespace braid
