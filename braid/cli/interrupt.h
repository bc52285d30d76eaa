#pragma once

namespace braid {

// Forgets a Ctrl+C that watch_interrupt() (command.h) has seen; the next one ends the process
// again.
void unwatch_interrupt();

}  // namespace braid
