#define KERNELS avx2_kernels
#include "table.h"
