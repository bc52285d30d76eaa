#include "braid/state/kv_state.h"

#include <doctest/doctest.h>

#include <map>
#include <string>
#include <vector>

#include "braid/base/rng.h"
#include "braid/testing/memory_file.h"

namespace braid {
namespace {

constexpr int64_t kHeads = 2, kDim = 5, kRow = kHeads * kDim;

class MemoryFile final : public StateWriter, public StateReader {
 public:
  void tensor(std::string_view name, const Tensor& value) override {
    tensors[std::string(name)] = value;
  }
  void integer(std::string_view name, int64_t value) override {
    integers[std::string(name)] = value;
  }
  Tensor tensor(std::string_view name, Shape shape, DType) override {
    const Tensor t = tensors.at(std::string(name));
    if (!(t.shape() == shape)) throw Error(ErrorKind::kBadInput, "shape");
    return t;
  }
  int64_t integer(std::string_view name) override { return integers.at(std::string(name)); }
  std::map<std::string, Tensor> tensors;
  std::map<std::string, int64_t> integers;
};

float key(int64_t position, int64_t i) { return static_cast<float>(position * 100 + i); }
float value(int64_t position, int64_t i) { return -key(position, i) - 0.5f; }

void append(KvState& state, int64_t tokens) {
  Context ctx;
  std::vector<float> k(static_cast<size_t>(tokens * kRow)), v(k.size());
  for (int64_t t = 0; t < tokens; ++t) {
    for (int64_t i = 0; i < kRow; ++i) {
      k[static_cast<size_t>(t * kRow + i)] = key(state.length() + t, i);
      v[static_cast<size_t>(t * kRow + i)] = value(state.length() + t, i);
    }
  }
  state.append(ctx, k.data(), kRow, v.data(), kRow, tokens);
}

// Positions [first, length), or [first, end), hold what append() wrote, and what lies behind them
// is finite.
bool holds(const KvState& state, int64_t first, int64_t end = -1) {
  const KvView view = state.view();
  for (int64_t p = first; p < (end < 0 ? kv_tiles(view.length) * kKvTile : end); ++p) {
    const int64_t tile = p / kKvTile, at = p % kKvTile;
    for (int64_t i = 0; i < kRow; ++i) {
      const KvLayout& l = view.layout;
      const auto* keys = reinterpret_cast<const float*>(view.keys(tile, i / kDim));
      const auto* values = reinterpret_cast<const float*>(view.values(tile, i / kDim));
      const float k = keys[l.key_at(at, i % kDim)], v = values[l.value_at(at, i % kDim)];
      const bool inside = p < view.length;
      if (inside ? k != key(p, i) || v != value(p, i) : !(k * 0 == 0 && v * 0 == 0)) return false;
    }
  }
  return true;
}

}  // namespace

TEST_CASE("a growing kv holds every position however it was appended") {
  Context ctx;
  GrowingKv kv(ctx, {kHeads, kDim});
  CHECK(kv.bytes() == 0);
  for (int64_t n : {1, 62, 1, 1, 64, 300, 1, 0, 700}) {
    append(kv, n);
    kv.forget();
    CHECK(holds(kv, 0));
    CHECK(kv.bytes() == GrowingKv::bytes_at({kHeads, kDim}, kv.length()));
  }
  CHECK(kv.length() == 1130);
  CHECK(kv.bytes() == 5 * 256 * 2 * kRow * sizeof(float));
}

TEST_CASE("a ring keeps its window and no more than two tiles besides") {
  Context ctx;
  for (int64_t window : {1, 2, 64, 65, 100}) {
    RingKv kv(ctx, {kHeads, kDim, window});
    for (int64_t step = 0; step < 400; ++step) {
      append(kv, step % 7 == 3 ? 90 : 1);
      CHECK(holds(kv, std::max<int64_t>(0, kv.length() - window)));
      kv.forget();
      CHECK(holds(kv, std::max<int64_t>(0, kv.length() - window + 1)));
      CHECK(kv.bytes() == RingKv::bytes_at({kHeads, kDim, window, 0}, kv.length()));
      CHECK(kv.bytes() <= static_cast<size_t>(window + 128) * 2 * kRow * sizeof(float));
    }
  }
}

TEST_CASE("a ring with a prefix keeps it besides its window, and files and snapshots do") {
  Context ctx;
  for (const int64_t prefix : {1, 64, 100}) {
    const KvShape shape{kHeads, kDim, 70, 0, 0, prefix};
    RingKv kv(ctx, shape);
    const auto whole = [&](const KvState& state) {
      const int64_t gone = std::max<int64_t>(0, state.length() - 69);
      return holds(state, gone) && holds(state, 0, std::min(prefix, state.length()));
    };
    for (int64_t step = 0; step < 200; ++step) {
      append(kv, step % 7 == 3 ? 90 : 1);
      CHECK(whole(kv));
      kv.forget();
      CHECK(whole(kv));
      CHECK(kv.bytes() == RingKv::bytes_at(shape, kv.length()));
      if (step % 20 != 0) continue;
      MemoryFile file;
      kv.save(file, "");
      RingKv loaded(ctx, shape);
      loaded.load(file, "");
      CHECK(whole(loaded));
      CHECK(loaded.bytes() == kv.bytes());
      const auto copy = kv.snapshot();
      append(loaded, 100);
      loaded.forget();
      CHECK(whole(loaded));
      CHECK(whole(static_cast<KvState&>(*copy)));
    }
    CHECK(kv.bytes() <= static_cast<size_t>(kv_tiles(prefix) * 64 + 70 + 128) * 2 * kRow * 4);
  }
}

TEST_CASE("snapshots are independent, share pages until written, and go back") {
  Context ctx;
  GrowingKv kv(ctx, {kHeads, kDim});
  append(kv, 600);
  const size_t held = ctx.arena->stats().in_use;
  const auto copy = kv.snapshot();
  CHECK(ctx.arena->stats().in_use == held);
  append(kv, 1);
  CHECK(ctx.arena->stats().in_use < held * 3 / 2);  // one page of three was copied
  CHECK(copy->length() == 600);
  CHECK(holds(static_cast<KvState&>(*copy), 0));
  CHECK(holds(kv, 0));
  const std::byte* before = kv.view().pages[2];
  append(kv, 1);
  CHECK(kv.view().pages[2] == before);  // its own page by now
  kv.restore(*copy);
  CHECK(kv.length() == 600);
  append(kv, 3);
  CHECK(holds(kv, 0));
  CHECK(holds(static_cast<KvState&>(*copy), 0));
  kv.reset();
  CHECK(kv.length() == 0);
  append(kv, 2);
  CHECK(holds(kv, 0));
  CHECK_THROWS_AS(kv.restore(RingKv(ctx, {kHeads, kDim, 64})), Error);
}

TEST_CASE("a saved kv comes back") {
  Context ctx;
  for (int64_t length : {0, 1, 64, 300}) {
    GrowingKv kv(ctx, {kHeads, kDim}), loaded(ctx, {kHeads, kDim});
    RingKv ring(ctx, {kHeads, kDim, 70}), ring_loaded(ctx, {kHeads, kDim, 70});
    append(kv, length);
    append(ring, length);
    ring.forget();
    MemoryFile file;
    kv.save(file, "a.");
    ring.save(file, "b.");
    append(loaded, 5);
    loaded.load(file, "a.");
    ring_loaded.load(file, "b.");
    CHECK(file.tensors.at("b.k").size(0) == std::min<int64_t>(length, 69));
    for (KvState* s : {static_cast<KvState*>(&loaded), static_cast<KvState*>(&ring_loaded)}) {
      CHECK(s->length() == length);
      append(*s, 66);
    }
    CHECK(holds(loaded, 0));
    CHECK(holds(ring_loaded, std::max<int64_t>(0, length - 69)));
    CHECK(loaded.bytes() == GrowingKv::bytes_at({kHeads, kDim}, length + 66));
    file.integers["a.length"] = -1;
    CHECK_THROWS_WITH_AS(loaded.load(file, "a."), "a.length is -1, expected 0 or more", Error);
  }
}

TEST_CASE("keys and values of every type: bytes, snapshots, and files that come back bit for bit") {
  Context ctx;
  for (const KvType type : {KvType::kF32, KvType::kBF16, KvType::kQ8}) {
    const auto content = [](const KvState& s) {
      testing::MemoryFile file;
      s.save(file, "");
      return file;
    };
    GrowingKv kv(ctx, {kHeads, kDim}, type), loaded(ctx, {kHeads, kDim}, type);
    RingKv ring(ctx, {kHeads, kDim, 70, 128}, type),
        ring_loaded(ctx, {kHeads, kDim, 70, 128}, type);
    for (const int64_t n : {1, 100, 63, 1, 200}) {
      append(kv, n);
      append(ring, n);
      ring.forget();
      CHECK(kv.bytes() == GrowingKv::bytes_at({kHeads, kDim}, kv.length(), type));
      CHECK(ring.bytes() == RingKv::bytes_at({kHeads, kDim, 70, 128}, ring.length(), type));
    }
    const testing::MemoryFile at = content(kv), ring_at = content(ring);
    CHECK(at.tensors.size() == (type == KvType::kQ8 ? 4 : 2));
    const auto copy = kv.snapshot();
    append(kv, 3);
    CHECK(content(static_cast<KvState&>(*copy)) == at);
    kv.restore(*copy);
    testing::MemoryFile in = at, ring_in = ring_at;
    loaded.load(in, "");
    ring_loaded.load(ring_in, "");
    CHECK(content(loaded) == at);
    CHECK(content(ring_loaded) == ring_at);
    append(loaded, 70);
    append(kv, 70);
    CHECK(content(loaded) == content(kv));
    in.integers["type"] = type == KvType::kF32 ? 2 : 0;
    const std::string error = type == KvType::kF32
                                  ? "type is q8, this sequence keeps f32; use --kv q8"
                                  : std::string("type is f32, this sequence keeps ") +
                                        kv_type_name(type) + "; use --kv f32";
    CHECK_THROWS_WITH_AS(loaded.load(in, ""), error.c_str(), Error);
    CHECK(parse_kv_type(kv_type_name(type)) == type);
  }
  const size_t f32 = GrowingKv::bytes_at({2, 128}, 1024),
               q8 = GrowingKv::bytes_at({2, 128}, 1024, KvType::kQ8);
  CHECK(GrowingKv::bytes_at({2, 128}, 1024, KvType::kBF16) == f32 / 2);
  CHECK(q8 == 1024 * 2 * 2 * (128 + 4));
  CHECK_THROWS_WITH_AS(parse_kv_type("f16"),
                       "'f16' is no type of keys and values; f32, bf16 and q8 are", Error);
}

TEST_CASE("positions that stand for blocks of tokens are counted in tokens by files and sizes") {
  Context ctx;
  const KvPaging paging{.tiles = 1, .blocks = {32, 16}};
  GrowingKv kv(ctx, {kHeads, kDim}, KvType::kF32, paging);
  append(kv, 70);
  testing::MemoryFile file;
  kv.save(file, "");
  CHECK(file.integers.at("length") == 69 * 16 + 32);
  file.integers["length"] += 15;  // tokens of a block that is not whole
  GrowingKv loaded(ctx, {kHeads, kDim}, KvType::kF32, paging);
  loaded.load(file, "");
  CHECK(loaded.length() == 70);
  CHECK(loaded.bytes() == kv.bytes());
  CHECK(kv.bytes() == GrowingKv::bytes_at({kHeads, kDim}, 69 * 16 + 32 + 15, KvType::kF32, paging));
  CHECK(GrowingKv::bytes_at({kHeads, kDim}, 31, KvType::kF32, paging) == 0);
}

TEST_CASE("a dry kv counts pages and touches none") {
  Context ctx;
  ctx.arena = Arena::create(Arena::Mode::kDry);
  GrowingKv kv(ctx, {kHeads, kDim});
  const Tensor rows = Tensor::empty(ctx, {1000, kRow});
  kv.append(ctx, rows.data(), kRow, rows.data(), kRow, 1000);
  kv.append(ctx, rows.data(), kRow, rows.data(), kRow, 1);
  CHECK(kv.length() == 1001);
  CHECK(kv.bytes() == GrowingKv::bytes_at({kHeads, kDim}, 1001));
}

}  // namespace braid
