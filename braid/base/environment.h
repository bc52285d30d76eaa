#pragma once
// Settings of a process that are variables of its environment alone, for they change how it
// computes and not what is asked of it. Flags have variables of their own (cli/main.cpp).

namespace braid {

struct Environment {
  bool tiles = true;               // BRAID_AMX=0: as on a machine without matrix tiles
  bool attention_in_int16 = true;  // BRAID_ATTENTION=f32: not where weights are rounded either
};

// Read once. Throws Error(kUsage) for a value that means nothing, with the variable and what it may
// be; main asks first, so that no kernel meets it.
const Environment& environment();

}  // namespace braid
