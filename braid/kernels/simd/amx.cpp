#include "braid/kernels/simd/amx.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>

#include "braid/base/environment.h"

namespace braid {
namespace {

constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24, kAmxInt8 = 1u << 25;  // leaf 7, edx
constexpr unsigned kAvx512Bf16 = 1u << 5;                                          // leaf 7.1, eax

// Linux hands out the tiles' 8 KB of state only to processes that ask for it.
bool granted() {
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // asm/prctl.h of newer kernels
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

bool machine_has_amx() {
  unsigned a, b, c, d, a1, b1, c1, d1;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  if (__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1) == 0) return false;
  constexpr unsigned kAll = kAmxBf16 | kAmxTile | kAmxInt8;
  return (d & kAll) == kAll && (a1 & kAvx512Bf16) != 0 && granted();
}

std::atomic<int> forbidden{0};

}  // namespace

bool amx_offered() {
  static const bool has = machine_has_amx();
  return has;
}

bool amx() {
  static const bool has = environment().tiles && amx_offered();
  return has && forbidden.load(std::memory_order_relaxed) == 0;
}

WithoutAmx::WithoutAmx() { forbidden.fetch_add(1, std::memory_order_relaxed); }
WithoutAmx::~WithoutAmx() { forbidden.fetch_sub(1, std::memory_order_relaxed); }

}  // namespace braid
