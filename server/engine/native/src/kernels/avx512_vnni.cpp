#define KERNELS avx512_vnni_kernels
#include "table.h"
