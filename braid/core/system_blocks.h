#pragma once
// Where an Arena's memory comes from. Blocks of 64 KiB and more lie one behind the other in chunks
// that the system backs with pages of 2 MiB: weights and states are read at the rate of the memory
// only there (pages of 4 KiB cost a third of it under a hypervisor), and are first touched several
// times as fast. Smaller blocks come from malloc.

#include <cstddef>
#include <map>
#include <vector>

namespace braid {

// Not safe for several threads at once.
class SystemBlocks {
 public:
  SystemBlocks() = default;
  ~SystemBlocks();
  SystemBlocks(const SystemBlocks&) = delete;
  SystemBlocks& operator=(const SystemBlocks&) = delete;

  // 64-byte aligned, of a multiple of 64 bytes; null when the system refuses. Contents are
  // anything.
  std::byte* take(size_t bytes);
  // What `take(bytes)` gave. Of a chunk with other blocks in it the pages of 4 KiB that this one
  // fills alone are no longer resident, but the system may keep a page of 2 MiB that they were part
  // of until it runs short, and their addresses serve blocks of the same size alone. A chunk goes
  // back as a whole with its last block; what small blocks leave is malloc's to keep.
  void give_back(std::byte* block, size_t bytes);

 private:
  struct Chunk {
    size_t bytes;
    size_t used = 0;                                   // the first bytes that blocks were made of
    size_t held = 0;                                   // blocks taken and not given back
    std::map<size_t, std::vector<std::byte*>> hollow;  // given back, by size
  };
  std::byte* from_chunks(size_t bytes);
  std::map<std::byte*, Chunk> chunks_;  // by address
};

}  // namespace braid
