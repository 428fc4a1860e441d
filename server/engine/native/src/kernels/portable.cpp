#define KERNELS portable_kernels
#include "table.h"
