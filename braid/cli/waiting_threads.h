#pragma once

namespace braid {

// OpenMP's threads spin before they sleep, and libgomp's default, about 10 ms, starves a program
// that shares its cores: beside a busy process the time of a training step grows many times over
// (docs/log.md). libgomp reads how long once, as it is loaded, so this starts the program again
// with a short spin. Nothing where OMP_WAIT_POLICY or GOMP_SPINCOUNT says what is wanted. Called
// first in main.
void keep_spins_short(char** argv);

}  // namespace braid
