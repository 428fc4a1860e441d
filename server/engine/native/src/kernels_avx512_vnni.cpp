#define KERNELS avx512_vnni_kernels
#include "kernels_impl.h"
