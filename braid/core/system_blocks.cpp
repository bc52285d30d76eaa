#include "braid/core/system_blocks.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace braid {
namespace {

constexpr size_t kAlign = 64;
constexpr size_t kPage = size_t{4} << 10;
constexpr size_t kHuge = size_t{2} << 20;
constexpr size_t kSmall = size_t{64} << 10;  // below: malloc's
// Addresses, not memory: what no block was made of is never touched. Large beside the one huge page
// at its end that blocks may fill in part only.
constexpr size_t kChunk = size_t{64} << 20;

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// The whole pages of a block; its neighbours share the others.
void drop_pages(std::byte* block, size_t bytes) {
  const auto at = reinterpret_cast<uintptr_t>(block);
  const uintptr_t begin = round_up(at, kPage), end = (at + bytes) / kPage * kPage;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

}  // namespace

SystemBlocks::~SystemBlocks() {
  for (auto& [data, chunk] : chunks_) std::free(data);
}

std::byte* SystemBlocks::take(size_t bytes) {
  if (bytes < kSmall) return static_cast<std::byte*>(std::aligned_alloc(kAlign, bytes));
  if (std::byte* block = from_chunks(bytes)) return block;
  const size_t size = round_up(std::max(bytes, kChunk), kHuge);
  auto* data = static_cast<std::byte*>(std::aligned_alloc(kHuge, size));
  if (data == nullptr) return nullptr;
  madvise(data, size, MADV_HUGEPAGE);
  chunks_.emplace(data, Chunk{.bytes = size, .used = bytes, .held = 1, .hollow = {}});
  return data;
}

std::byte* SystemBlocks::from_chunks(size_t bytes) {
  for (auto& [data, chunk] : chunks_) {
    const auto hollow = chunk.hollow.find(bytes);
    if (hollow == chunk.hollow.end() || hollow->second.empty()) continue;
    std::byte* block = hollow->second.back();
    hollow->second.pop_back();
    ++chunk.held;
    return block;
  }
  for (auto& [data, chunk] : chunks_) {
    if (chunk.bytes - chunk.used < bytes) continue;
    std::byte* block = data + chunk.used;
    chunk.used += bytes;
    ++chunk.held;
    return block;
  }
  return nullptr;
}

void SystemBlocks::give_back(std::byte* block, size_t bytes) {
  if (bytes < kSmall) return std::free(block);
  const auto at = std::prev(chunks_.upper_bound(block));
  Chunk& chunk = at->second;
  if (--chunk.held == 0) {
    std::free(at->first);
    chunks_.erase(at);
    return;
  }
  drop_pages(block, bytes);
  chunk.hollow[bytes].push_back(block);
}

}  // namespace braid
