#pragma once
// Token strings by id and ids by string.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace braid {

class Vocabulary {
 public:
  // Ids of a file may be sparse, but not without bound: Error(kBadInput) above this.
  static constexpr int64_t kMaxId = (int64_t{1} << 24) - 1;

  // Of equal strings find() gives the last. Throws when the id is taken or out of range.
  void add(int64_t id, std::string_view token);
  int32_t find(std::string_view token) const;  // -1 when there is none
  bool has(int32_t id) const;
  std::string_view at(int32_t id) const;                                // of an id that is there
  int32_t size() const { return static_cast<int32_t>(spans_.size()); }  // largest id + 1
  int32_t count() const { return count_; }

 private:
  struct Span {
    uint32_t offset = 0;
    int32_t bytes = -1;  // -1: no token
  };
  void grow();
  std::string text_;
  std::vector<Span> spans_;     // by id
  std::vector<int32_t> table_;  // open addressing, -1 is free
  int32_t count_ = 0;
};

}  // namespace braid
