#pragma once
// Which instructions the kernels of this process run, so that a speed can be placed.

#include <string>

#include "braid/base/json.h"
#include "braid/core/context.h"

namespace braid {

struct Instructions {
  enum class Tiles {
    kNone,  // the processor has no matrix tiles, or the system does not grant them
    kOff,   // it has, but BRAID_AMX=0
    kOn,
  };
  std::string vectors;  // "AVX-512", "AVX2"
  bool vnni = false;    // sums of four products of bytes in one instruction
  std::string target;   // Highway's name: "AVX3_DL"
  Tiles tiles = Tiles::kNone;
  // Of tile products from registers on all threads; 0 where tiles are not on or nobody measured.
  double tile_bf16_gflops = 0, tile_int8_gops = 0;
};

Instructions instructions();  // without the peaks
// The same with the peaks of tiles, where there are any; under 0.2 s.
Instructions probe_instructions(const Context& ctx);

// "AVX-512 with VNNI (AVX3_DL), no matrix tiles"
std::string instructions_text(const Instructions& i);
// {"vectors": "AVX-512", "vnni": true, "highway": "AVX3_DL", "tiles": "none" | "off" | "on",
// "tile_bf16_gflops": null, "tile_int8_gops": null}; peaks are null where none was measured.
Json instructions_json(const Instructions& i);

}  // namespace braid
