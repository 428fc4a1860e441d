// libFuzzer's runtime is clang's, and the core is GCC's: which blocks of code were run, it learns from here.
#include <cstdint>

extern "C" {

extern const char __executable_start;  // by the linker

// libFuzzer looks into a section of this name: https://llvm.org/docs/LibFuzzer.html
__attribute__((section("__libfuzzer_extra_counters"))) uint8_t counters[1 << 17];

// What GCC calls in every block (-fsanitize-coverage=trace-pc) in place of libFuzzer's, which only says that it does
// not know it: the linker's --wrap.
void __wrap___sanitizer_cov_trace_pc() {
    const auto place = static_cast<const char*>(__builtin_return_address(0)) - &__executable_start;
    ++counters[static_cast<uint64_t>(place) * 0x9E3779B97F4A7C15 >> 47];
}

// Comparisons of floats, which clang does not report and libFuzzer has no use for.
void __sanitizer_cov_trace_cmpf(float, float) {}
void __sanitizer_cov_trace_cmpd(double, double) {}
}
