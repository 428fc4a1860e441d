#define KERNELS avx2_kernels
#include "kernels_impl.h"
