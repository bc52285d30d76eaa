#pragma once

#include <functional>

#include "braid/cli/command.h"

namespace braid {

// `braid bench stack`: the cost of stack expressions against length.
std::function<int()> setup_bench_stack(CLI::App& app);

}  // namespace braid
