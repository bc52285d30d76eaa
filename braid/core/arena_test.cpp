#include "braid/core/arena.h"

#include <doctest/doctest.h>

#include <cstring>
#include <fstream>
#include <vector>

#include "braid/base/error.h"

namespace braid {
namespace {

constexpr size_t kKi = 1024, kMi = size_t{1} << 20;

using Blocks = std::vector<std::shared_ptr<Storage>>;

std::shared_ptr<Storage> filled(Arena& arena, size_t bytes, int value) {
  auto block = arena.allocate(bytes);
  CHECK(reinterpret_cast<uintptr_t>(block->data()) % 64 == 0);
  std::memset(block->data(), value, bytes);
  return block;
}

bool holds(const Storage& block, int value) {
  for (size_t i = 0; i < block.bytes(); ++i) {
    if (block.data()[i] != static_cast<std::byte>(value)) return false;
  }
  return true;
}

[[maybe_unused]] int64_t resident_bytes() {
  int64_t total = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> total >> resident;
  return resident * 4096;
}

// Blocks of every kind: of malloc, of a chunk, larger than a chunk.
const std::vector<size_t> kSizes = {1,         100,      63 * kKi, 64 * kKi,     65 * kKi,
                                    256 * kKi, kMi + 64, 3 * kMi,  17 * kMi + 1, 80 * kMi};

}  // namespace

TEST_CASE("blocks do not overlap, freed and given back ones neither") {
  const auto arena = Arena::create();
  Blocks blocks;
  for (int round = 0; round < 3; ++round) {
    for (size_t i = 0; i < 2 * kSizes.size(); ++i) {
      blocks.resize(2 * kSizes.size());
      if (blocks[i]) continue;
      blocks[i] = filled(*arena, kSizes[i / 2], static_cast<int>(i));
    }
    for (size_t i = 0; i < blocks.size(); ++i) CHECK(holds(*blocks[i], static_cast<int>(i)));
    for (size_t i = static_cast<size_t>(round) % 2; i < blocks.size(); i += 2) blocks[i] = nullptr;
    if (round > 0) arena->trim();  // the second time with half the blocks in between alive
    for (size_t i = 0; i < blocks.size(); ++i) {
      if (blocks[i]) CHECK(holds(*blocks[i], static_cast<int>(i)));
    }
  }
}

TEST_CASE("a freed block serves the next of its size; trim frees the budget of what is kept") {
  for (const size_t bytes : {300 * kKi, 3 * kMi}) {
    const auto arena = Arena::create(Arena::Mode::kReal, 5 * kMi);
    auto other = arena->allocate(100 * kKi);  // keeps the chunk alive
    auto block = arena->allocate(bytes);
    const std::byte* at = block->data();
    block = nullptr;
    block = arena->allocate(bytes);
    CHECK(block->data() == at);
    block = nullptr;
    CHECK_THROWS_AS(arena->allocate(4700 * kKi), Error);  // as long as the other size is kept
    arena->trim();
    const auto large = arena->allocate(4700 * kKi);
  }
}

#ifndef __SANITIZE_THREAD__  // whose shadow of memory is resident too, and several times as large
TEST_CASE("trim gives memory back while neighbours live; small blocks do not make much resident") {
  const auto arena = Arena::create();
  const int64_t before = resident_bytes();
  Blocks alive, gone;
  int64_t held = 0;
  for (int i = 0; i < 64; ++i) {
    alive.push_back(filled(*arena, 256 * kKi, i));
    gone.push_back(filled(*arena, kMi, i));
    held += static_cast<int64_t>(256 * kKi + kMi);
  }
  CHECK(resident_bytes() - before >= held);
  CHECK(resident_bytes() - before < held + static_cast<int64_t>(8 * kMi));
  gone.clear();
  arena->trim();
  CHECK(resident_bytes() - before < held - static_cast<int64_t>(56 * kMi));
  for (int i = 0; i < 64; ++i) CHECK(holds(*alive[static_cast<size_t>(i)], i));
  alive.clear();
  arena->trim();
  CHECK(arena->stats().reserved == 0);
  CHECK(resident_bytes() - before < static_cast<int64_t>(8 * kMi));
}
#endif

}  // namespace braid
