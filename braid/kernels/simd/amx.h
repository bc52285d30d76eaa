#pragma once
// Matrix tiles (AMX): registers of up to 16 rows of 64 bytes whose products are single
// instructions. Thin wrappers, because gcc 12's own intrinsics do not tell the compiler which
// memory they read, and a switch, because most machines have none.

#include <cstdint>

namespace braid {

// Whether kernels may use tiles: the processor has them for int8 and bf16, the system grants them,
// and neither BRAID_AMX=0 nor a WithoutAmx says otherwise. Ask before every product, not inside.
bool amx();
// The same whatever BRAID_AMX says.
bool amx_offered();

// While one lives, kernels take the paths of machines without tiles. For tests and comparisons;
// not while products are running.
class WithoutAmx {
 public:
  WithoutAmx();
  ~WithoutAmx();
  WithoutAmx(const WithoutAmx&) = delete;
  WithoutAmx& operator=(const WithoutAmx&) = delete;
};

// Functions with AVX-512 code beside tiles; every machine with tiles has it.
#define BRAID_AMX_CODE __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

// The shapes of tiles 0 to 7, of the thread. They are zero after it.
struct alignas(64) AmxShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};
};
inline void amx_begin(const AmxShapes& shapes) { asm volatile("ldtilecfg %0" : : "m"(shapes)); }
inline void amx_end() { asm volatile("tilerelease"); }

template <int kTile>
inline void amx_zero() {
  asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
}
// Rows lie `stride` bytes apart.
template <int kTile>
inline void amx_load(const void* from, int64_t stride) {
  asm volatile("tileloadd (%0,%1,1), %%tmm%c2" : : "r"(from), "r"(stride), "i"(kTile) : "memory");
}
template <int kTile>
inline void amx_store(void* to, int64_t stride) {
  asm volatile("tilestored %%tmm%c2, (%0,%1,1)" : : "r"(to), "r"(stride), "i"(kTile) : "memory");
}
// c += a b. a [rows, 4 k] int8 and b [k, columns, 4] int8; sums are int32.
template <int kC, int kA, int kB>
inline void amx_int8() {
  asm volatile("tdpbssd %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}
// c += a b. a [rows, 2 k] and b [k, columns, 2] bf16; sums are f32.
template <int kC, int kA, int kB>
inline void amx_bf16() {
  asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" : : "i"(kC), "i"(kA), "i"(kB));
}

}  // namespace braid
