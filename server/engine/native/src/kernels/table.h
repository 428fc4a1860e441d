// All kernels, compiled for one instruction set: the file that includes this one names the table (KERNELS), and the
// build gives it its compiler flags.
#pragma once

#include "attention.h"
#include "draw.h"
#include "measure.h"
#include "products.h"
#include "rows.h"

namespace pokegen {

extern const Kernels KERNELS;
const Kernels KERNELS = {norm,        quantise,       multiply_int8, multiply_float32, keep_int8, keep_float32,
                         attend_int8, attend_float32, draw,          multiply_adds,    read_bytes};

}  // namespace pokegen
