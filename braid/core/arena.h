#pragma once
// Memory of tensors. An Arena hands out Storage and takes it back when the last handle drops,
// keeping freed blocks by size class for the next step: after the first step nothing is asked of
// the system. It is the one ledger under --mem: what others own (mapped weights) is adopted into
// it, so that the budget holds for the sum.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace braid {

class Arena;

// One aligned block of memory with one owner; tensors share it by shared_ptr.
class Storage {
 public:
  Storage(std::shared_ptr<Arena> arena, std::byte* data, size_t bytes, size_t reserved);
  // Memory that somebody else owns (a mapped file); `owner` keeps it alive. With an arena it is
  // counted there (Arena::adopt).
  Storage(const std::byte* data, size_t bytes, std::shared_ptr<const void> owner,
          std::shared_ptr<Arena> arena = nullptr);
  ~Storage();
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;

  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  std::shared_ptr<Arena> arena_;
  std::shared_ptr<const void> owner_;
  std::byte* data_;
  size_t bytes_;
  size_t reserved_;
};

struct ArenaStats {
  size_t in_use = 0;    // bytes of live blocks, as reserved; adopted ones as they are
  size_t peak = 0;      // greatest in_use since the last reset_peak
  size_t reserved = 0;  // bytes held from the system, live or kept, and adopted ones
  size_t weights = 0;   // in_use when mark_weights was called
};

class Arena : public std::enable_shared_from_this<Arena> {
 public:
  enum class Mode {
    kReal,
    kDry,  // counts and hands out unreadable addresses: what `plan` runs a model in
  };
  static std::shared_ptr<Arena> create(Mode mode = Mode::kReal, size_t budget_bytes = SIZE_MAX);
  ~Arena();

  // 64-byte aligned; NaN-filled under test (BRAID_POISON, or a build with checks). Throws
  // Error(kBudget) past the budget, naming the bytes asked for, in use and allowed. Safe to call
  // from one thread only.
  std::shared_ptr<Storage> allocate(size_t bytes);
  // Counts bytes that `owner` keeps: a part of a mapped file that is read in place. Throws like
  // allocate.
  std::shared_ptr<Storage> adopt(const std::byte* data, size_t bytes,
                                 std::shared_ptr<const void> owner);
  // What is in use now is a model's weights; messages tell them from the rest.
  void mark_weights();
  ArenaStats stats() const;
  void reset_peak();
  void trim();  // gives kept blocks back to the system
  bool dry() const;

 private:
  friend class Storage;
  explicit Arena(Mode mode, size_t budget_bytes);
  void release(std::byte* data, size_t bytes, size_t reserved);
  void release_adopted(size_t bytes);
  void require(size_t bytes) const;  // the mutex is held
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace braid
