// What the machine can do at best, to compare the engine with.
#pragma once

#include "kernels.h"

namespace pokegen {

struct Ceilings {
    double multiply_adds;  // int8, a second
    double bytes;          // read from memory, a second
};

// The best of several rounds that take about `seconds` in all. Takes 256 MiB for as long.
Ceilings measure_ceilings(Isa, int n_threads, double seconds);

}  // namespace pokegen
