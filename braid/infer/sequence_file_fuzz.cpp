// A state is damaged while it is written, before its digest is made, so that everything behind the
// digest has to find it: numbers are changed, tensors reshaped, retyped, overwritten or left out.
// Loading it is Error(kBadInput) and leaves the sequence it was loaded into as it was, or gives a
// sequence that is saved to the same bytes again after another way through a file, and can go on.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <map>
#include <string>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/file.h"
#include "braid/infer/generate.h"
#include "braid/infer/sequence_file.h"
#include "braid/state/state_file.h"
#include "braid/testing/fuzz_edit.h"
#include "braid/testing/fuzz_expect.h"
#include "braid/testing/fuzz_folder.h"

namespace braid {
namespace {

constexpr int64_t kVocab = 11;

// Every kind of state, alone, in groups and side by side.
constexpr const char* kStacks[] = {
    "gqa, gqa{window=4}, mla, fox, diff",
    "kda, gdn, mamba, mamba2{head_dim=8}, mamba3{head_dim=8}, shortconv",
    "rwkv7{head_dim=8}, cmix, rwkv6{head_dim=8}, hymba",
    "gqa | mamba2{head_dim=8}, gqa{window=3} + gdn",
    "nsa{block=4,window=4,top_n=3,compress_block=4,compress_stride=2}, moba{block=4,top_k=2}",
    "dsa{index_topk=4,index_n_heads=2,index_head_dim=8}, loop 2 x (gqa, swiglu)",
};

using testing::FuzzInput;

// Fields in the order in which they are written, some of them changed.
class Damage final : public StateWriter {
 public:
  Damage(FuzzInput& input, StateWriter& out) : out_(out) {
    while (!input.empty()) {
      Edit e;
      const uint8_t field = input.byte();
      e.what = input.byte();
      e.number = input.number();
      e.second = input.byte();
      edits_[field] = e;
    }
  }

  void integer(std::string_view name, int64_t value) override {
    const Edit* e = next();
    if (e == nullptr) return out_.integer(name, value);
    if (e->what % 4 == 0) return;
    out_.integer(name, e->what % 4 == 1 ? e->number
                                        : static_cast<int64_t>(static_cast<uint64_t>(value) +
                                                               static_cast<uint64_t>(e->number)));
  }

  void tensor(std::string_view name, const Tensor& value) override {
    const Edit* e = next();
    if (e == nullptr) return out_.tensor(name, value);
    if (e->what % 4 == 0) return;
    if (e->what % 4 == 1) return out_.tensor(name, overwritten(value, *e));
    out_.tensor(name, reshaped(value, *e));
  }

 private:
  struct Edit {
    uint8_t what = 0, second = 0;
    int64_t number = 0;
  };

  const Edit* next() {
    const auto found = edits_.find(static_cast<uint8_t>(at_++));
    return found == edits_.end() ? nullptr : &found->second;
  }

  static Tensor overwritten(const Tensor& value, const Edit& e) {
    const Context ctx;
    Tensor out = Tensor::empty(ctx, value.shape(), value.dtype());
    std::memcpy(out.data<std::byte>(), value.data<std::byte>(), value.bytes());
    for (size_t i = 0; i < sizeof e.number && i + e.second < out.bytes(); ++i)
      std::memcpy(out.data<std::byte>() + e.second + i,
                  reinterpret_cast<const std::byte*>(&e.number) + i, 1);
    return out;
  }

  static Tensor reshaped(const Tensor& value, const Edit& e) {
    const Context ctx;
    constexpr DType kTypes[] = {DType::kF32, DType::kBF16, DType::kI32};
    const DType type = e.second % 4 < 3 ? kTypes[e.second % 4] : value.dtype();
    std::vector<int64_t> sizes;
    for (int i = 0; i < value.rank(); ++i) sizes.push_back(value.size(i));
    if (!sizes.empty()) {
      int64_t& size = sizes[e.second / 4 % sizes.size()];
      size = std::clamp<int64_t>(static_cast<int8_t>(e.number) + size, 0, 300);
    }
    Tensor out = Tensor::zeros(ctx, Shape(sizes), type);
    std::memcpy(out.data<std::byte>(), value.data<std::byte>(),
                std::min(out.bytes(), value.bytes()));
    return out;
  }

  StateWriter& out_;
  std::map<uint8_t, Edit> edits_;
  size_t at_ = 0;
};

void go_on(const Context& ctx, Model& model, SequenceState& s, int64_t tokens) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>(i * 7 % kVocab));
  advance(ctx, model, s, ids);
}

const testing::FuzzFolder& folder() {
  static const testing::FuzzFolder one("sequence");
  return one;
}

class World {
 public:
  World(const char* stack, int64_t meta_tokens, KvType kv) {
    ModelSettings s;
    s.stack = parse_stack(stack, known_layers());
    s.width = 16;
    s.heads = 2;
    s.head_dim = 8;
    s.vocab = kVocab;
    s.meta_tokens = meta_tokens;
    model_.emplace(ctx_, s);
    good_ = model_->new_sequence(ctx_, {kv});
    target_ = good_.snapshot();
    go_on(ctx_, *model_, good_, 9);
    go_on(ctx_, *model_, target_, 3);
    const std::string bytes = saved(good_);
    const StateFileReader in(ctx_, path_);
    stack_ = in.text("stack");
    identity_ = in.text("model");
    before_ = saved(target_);
  }

  void damage_and_load(FuzzInput& input) {
    StateFileWriter out;
    out.text("stack", stack_);
    out.text("model", identity_);
    Damage damage(input, out);
    good_.save(damage);
    out.write(path_);
    Context ctx = ctx_;
    ctx.arena = Arena::create(Arena::Mode::kReal, size_t{64} << 20);
    SequenceState target = target_.snapshot();
    try {
      load_sequence(ctx, path_, *model_, target);
    } catch (const Error& e) {
      testing::expect(e);
      BRAID_CHECK(std::string(e.what()).find(path_) != std::string::npos);
      BRAID_CHECK(saved(target) == before_);
      return;
    }
    const std::string once = saved(target);
    SequenceState again = target_.snapshot();
    load_sequence(ctx, path_, *model_, again);
    BRAID_CHECK(saved(again) == once);
    go_on(ctx, *model_, target, 6);
    try {
      sample({target.logits.data(), static_cast<size_t>(kVocab)}, target.tokens,
             {.temperature = 1, .repetition_penalty = 1.1}, target.draws);
    } catch (const Error& e) {
      testing::expect(e);  // a NaN that the file held
    }
  }

 private:
  std::string saved(const SequenceState& s) {
    save_sequence(path_, *model_, s);
    return read_file(path_);
  }

  Context ctx_{.threads = 1};  // starting others would take longer than their work
  std::string path_ = folder() / "state";
  std::optional<Model> model_;
  SequenceState good_, target_;
  std::string stack_, identity_, before_;
};

}  // namespace
}  // namespace braid

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using braid::World;
  static std::map<int, std::unique_ptr<World>> worlds;
  braid::testing::FuzzInput input(data, size);
  const size_t stack = input.byte() % std::size(braid::kStacks);
  const int kv = input.byte() % 3;
  std::unique_ptr<World>& world = worlds[static_cast<int>(stack) * 3 + kv];
  if (world == nullptr) {
    world = std::make_unique<World>(braid::kStacks[stack], stack == 0 ? 2 : 0,
                                    static_cast<braid::KvType>(kv));
  }
  world->damage_and_load(input);
  return 0;
}
