#pragma once
// Ids of pieces of text that were encoded before. Bounded: when full it starts anew.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

class PieceCache {
 public:
  static constexpr size_t kMaxPieceBytes = 64;
  // The slot's ids, or nullptr data when the piece is not there.
  std::span<const int32_t> find(std::string_view piece, uint64_t hash) const;
  void insert(std::string_view piece, uint64_t hash, std::span<const int32_t> ids);

 private:
  static constexpr size_t kMaxEntries = size_t{1} << 18;
  static constexpr size_t kMaxBytes = size_t{8} << 20;
  struct Entry {
    uint32_t tag = 0;
    uint32_t text = 0;
    uint32_t ids = 0;
    uint16_t bytes = 0;  // 0: free
    uint16_t count = 0;
  };
  void grow();
  std::vector<Entry> entries_;
  size_t used_ = 0;
  std::string texts_;
  std::vector<int32_t> ids_;
};

}  // namespace braid
