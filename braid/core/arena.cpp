#include "braid/core/arena.h"

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "braid/base/error.h"
#include "braid/base/format.h"
#include "braid/core/system_blocks.h"

namespace braid {
namespace {

constexpr size_t kAlign = 64;
constexpr int kSentinel = 0xA5;

// Fresh memory is NaN and guarded behind its end: in builds with checks, and in every test (ctest
// sets BRAID_POISON).
bool poisoned() {
#ifdef BRAID_CHECKS
  return true;
#else
  static const bool on = std::getenv("BRAID_POISON") != nullptr;
  return on;
#endif
}

size_t sentinel_bytes() { return poisoned() ? 64 : 0; }

size_t round_up(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Few distinct sizes, at most 1/16 lost, so that a freed block fits the next request of nearly its
// size.
size_t size_class(size_t bytes) {
  const size_t n = bytes + sentinel_bytes();
  if (n <= 1024) return round_up(n > 0 ? n : 1, kAlign);
  size_t step = kAlign;
  while (step * 32 < n) step *= 2;
  return round_up(n, step);
}

}  // namespace

struct Arena::Impl {
  Mode mode = Mode::kReal;
  size_t budget = SIZE_MAX;
  ArenaStats stats;
  std::map<size_t, std::vector<std::byte*>> kept;
  SystemBlocks system;
  mutable std::mutex mutex;
};

Storage::Storage(std::shared_ptr<Arena> arena, std::byte* data, size_t bytes, size_t reserved)
    : arena_(std::move(arena)), data_(data), bytes_(bytes), reserved_(reserved) {}

Storage::Storage(const std::byte* data, size_t bytes, std::shared_ptr<const void> owner,
                 std::shared_ptr<Arena> arena)
    : arena_(std::move(arena)),
      owner_(std::move(owner)),
      data_(const_cast<std::byte*>(data)),
      bytes_(bytes),
      reserved_(0) {}

Storage::~Storage() {
  if (!arena_) return;
  if (reserved_ == 0) {
    arena_->release_adopted(bytes_);
  } else {
    arena_->release(data_, bytes_, reserved_);
  }
}

Arena::Arena(Mode mode, size_t budget_bytes) : impl_(std::make_unique<Impl>()) {
  impl_->mode = mode;
  impl_->budget = budget_bytes;
}

std::shared_ptr<Arena> Arena::create(Mode mode, size_t budget_bytes) {
  return std::shared_ptr<Arena>(new Arena(mode, budget_bytes));
}

Arena::~Arena() { trim(); }

bool Arena::dry() const { return impl_->mode == Mode::kDry; }

void Arena::require(size_t bytes) const {
  const Impl& a = *impl_;
  if (bytes <= a.budget - std::min(a.budget, a.stats.reserved)) return;
  const auto mib = [](size_t n) { return static_cast<double>(n) * 0x1p-20; };
  throw Error(
      ErrorKind::kBudget,
      format("out of memory budget: {:.3f} MiB more asked for, {:.1f} MiB held ({:.1f} of weights, "
             "{:.1f} of state and scratch), {:.1f} MiB allowed (--mem)",
             mib(bytes), mib(a.stats.reserved), mib(a.stats.weights),
             mib(a.stats.reserved - std::min(a.stats.reserved, a.stats.weights)), mib(a.budget)));
}

std::shared_ptr<Storage> Arena::allocate(size_t bytes) {
  Impl& a = *impl_;
  const std::lock_guard lock(a.mutex);
  const size_t reserved = size_class(bytes);
  auto kept = a.kept.find(reserved);
  const bool reuse = kept != a.kept.end() && !kept->second.empty();
  if (!reuse) require(reserved);
  std::byte* data = nullptr;
  if (reuse) {
    data = kept->second.back();
    kept->second.pop_back();
  } else {
    // An address that is never mapped: any use of dry memory faults at once.
    data = dry() ? reinterpret_cast<std::byte*>(uintptr_t{0x1000}) : a.system.take(reserved);
    if (data == nullptr) {
      throw Error(ErrorKind::kBudget, format("the system refused {} bytes of memory", reserved));
    }
    a.stats.reserved += reserved;
  }
  a.stats.in_use += reserved;
  a.stats.peak = std::max(a.stats.peak, a.stats.in_use);
  if (poisoned() && !dry()) {
    std::memset(data, 0xFF, bytes);  // every f32 and bf16 of it is a NaN
    std::memset(data + bytes, kSentinel, sentinel_bytes());
  }
  return std::make_shared<Storage>(shared_from_this(), data, bytes, reserved);
}

std::shared_ptr<Storage> Arena::adopt(const std::byte* data, size_t bytes,
                                      std::shared_ptr<const void> owner) {
  Impl& a = *impl_;
  const std::lock_guard lock(a.mutex);
  require(bytes);
  a.stats.reserved += bytes;
  a.stats.in_use += bytes;
  a.stats.peak = std::max(a.stats.peak, a.stats.in_use);
  return std::make_shared<Storage>(data, bytes, std::move(owner), shared_from_this());
}

void Arena::release_adopted(size_t bytes) {
  const std::lock_guard lock(impl_->mutex);
  impl_->stats.reserved -= bytes;
  impl_->stats.in_use -= bytes;
}

void Arena::mark_weights() {
  const std::lock_guard lock(impl_->mutex);
  impl_->stats.weights = impl_->stats.in_use;
}

void Arena::release(std::byte* data, size_t bytes, size_t reserved) {
  const std::lock_guard lock(impl_->mutex);
  if (!dry()) {
    for (size_t i = 0; i < sentinel_bytes(); ++i) {
      if (data[bytes + i] != std::byte{kSentinel}) {
        std::fputs("braid: a kernel wrote past the end of a tensor\n", stderr);
        std::abort();  // called from a destructor, where nothing may be thrown
      }
    }
  }
  impl_->stats.in_use -= reserved;
  impl_->kept[reserved].push_back(data);
}

ArenaStats Arena::stats() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->stats;
}

void Arena::reset_peak() {
  const std::lock_guard lock(impl_->mutex);
  impl_->stats.peak = impl_->stats.in_use;
}

void Arena::trim() {
  const std::lock_guard lock(impl_->mutex);
  for (auto& [reserved, blocks] : impl_->kept) {
    for (std::byte* b : blocks) {
      if (!dry()) impl_->system.give_back(b, reserved);
      impl_->stats.reserved -= reserved;
    }
    blocks.clear();
  }
}

}  // namespace braid
