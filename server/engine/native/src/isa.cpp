#include <initializer_list>

#include "kernels.h"

namespace pokegen {

extern const Kernels portable_kernels;
#ifdef POKEGEN_X86_64
extern const Kernels avx2_kernels;
extern const Kernels avx512_vnni_kernels;
#endif

bool is_supported(Isa isa) {
    switch (isa) {
        case Isa::portable:
            return true;
#ifdef POKEGEN_X86_64
        // GCC's checks include the operating system's: that it saves the wide registers.
        case Isa::avx2:
            return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        case Isa::avx512_vnni:
            return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                   __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                   __builtin_cpu_supports("avx512vnni");
#endif
        default:
            return false;
    }
}

Isa best_isa() {
    for (Isa isa : {Isa::avx512_vnni, Isa::avx2})
        if (is_supported(isa)) return isa;
    return Isa::portable;
}

const Kernels& kernels_for(Isa isa) {
    switch (isa) {
#ifdef POKEGEN_X86_64
        case Isa::avx2:
            return avx2_kernels;
        case Isa::avx512_vnni:
            return avx512_vnni_kernels;
#endif
        default:
            return portable_kernels;
    }
}

}  // namespace pokegen
