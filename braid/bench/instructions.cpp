#include "braid/bench/instructions.h"

#include <algorithm>
#include <atomic>

#include "braid/base/clock.h"
#include "braid/base/format.h"
#include "braid/bench/limits_kernel.h"
#include "braid/bench/tile_peak.h"
#include "braid/core/parallel.h"
#include "braid/kernels/simd/amx.h"

namespace braid {
namespace {

constexpr int kReadings = 8;
constexpr int64_t kPieces = 16;        // a thread's share of a reading, as limits.cpp has it
constexpr int64_t kTileRounds = 4000;  // about half a millisecond a piece

Instructions::Tiles tiles() {
  if (amx()) return Instructions::Tiles::kOn;
  return amx_offered() ? Instructions::Tiles::kOff : Instructions::Tiles::kNone;
}

const char* tiles_name(Instructions::Tiles t) {
  switch (t) {
    case Instructions::Tiles::kNone:
      return "none";
    case Instructions::Tiles::kOff:
      return "off";
    case Instructions::Tiles::kOn:
      return "on";
  }
  return "";
}

// 1e9 operations a second of `burn` on all threads, the best of some readings.
double tile_peak(const Context& ctx, double (*burn)(int64_t rounds)) {
  double best = 0;
  for (int reading = 0; reading < kReadings; ++reading) {
    std::atomic<double> done{0};
    const double start = now_seconds();
    parallel_for(ctx, effective_threads(ctx) * kPieces, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i)
        done.fetch_add(burn(kTileRounds), std::memory_order_relaxed);
    });
    best = std::max(best, done.load() / (now_seconds() - start) * 1e-9);
  }
  return best;
}

Json peak_json(double peak) { return peak > 0 ? Json(peak) : Json(); }

}  // namespace

Instructions instructions() {
  Instructions i;
  i.target = vector_target();
  const bool wide = i.target.starts_with("AVX3");
  i.vectors = wide ? "AVX-512" : i.target;
  i.vnni = dot_products();
  i.tiles = tiles();
  return i;
}

Instructions probe_instructions(const Context& ctx) {
  Instructions i = instructions();
  if (i.tiles != Instructions::Tiles::kOn) return i;
  i.tile_bf16_gflops = tile_peak(ctx, burn_bf16_tiles);
  i.tile_int8_gops = tile_peak(ctx, burn_int8_tiles);
  return i;
}

std::string instructions_text(const Instructions& i) {
  std::string out = format("{}{} ({})", i.vectors, i.vnni ? " with VNNI" : "", i.target);
  if (i.tiles == Instructions::Tiles::kNone) return out + ", no matrix tiles";
  if (i.tiles == Instructions::Tiles::kOff) return out + ", matrix tiles off by BRAID_AMX=0";
  out += ", matrix tiles on";
  if (i.tile_bf16_gflops > 0) {
    out += format(": bf16 peak {:.0f} GFLOP/s, int8 peak {:.0f} Gop/s", i.tile_bf16_gflops,
                  i.tile_int8_gops);
  }
  return out;
}

Json instructions_json(const Instructions& i) {
  return Json::object({{"vectors", i.vectors},
                       {"vnni", i.vnni},
                       {"highway", i.target},
                       {"tiles", tiles_name(i.tiles)},
                       {"tile_bf16_gflops", peak_json(i.tile_bf16_gflops)},
                       {"tile_int8_gops", peak_json(i.tile_int8_gops)}});
}

}  // namespace braid
