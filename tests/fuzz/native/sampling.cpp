// Draws from any logits with any parameters that are let through: a token that may be drawn, or the word that they are
// no numbers.
#include "batch.h"

#include <cmath>
#include <stdexcept>

#include "../../native/check.h"
#include "input.h"

using namespace pokegen;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input(data, size);
    const Isa isa = input.of({Isa::portable, Isa::avx2, Isa::avx512_vnni});
    if (!is_supported(isa)) return 0;
    Sampling sampling{input.of({0.0, 1.0, 0.7, 10.0, 5e-324}),
                      input.of({0.0, 1.0, 0.9, 5e-324}),
                      input.between(0, 70),
                      input.raw<uint64_t>(),
                      input.raw<uint64_t>(),
                      input.raw<uint64_t>()};
    if (input.yes()) sampling.temperature = input.raw<double>();
    if (input.yes()) sampling.top_p = input.raw<double>();
    if (input.yes()) sampling.top_k = input.raw<int32_t>();
    try {
        sampling = checked(sampling);
    } catch (const std::invalid_argument&) {
        return 0;
    }
    const int n = input.between(1, 2200), padded = round_up(n, DRAW_PADDING);
    const std::vector<float> logits = input.numbers(static_cast<size_t>(n));
    std::vector<float> copy = logits, scratch(3 * static_cast<size_t>(padded), std::nanf(""));
    copy.resize(static_cast<size_t>(padded), std::nanf(""));
    const int32_t token = kernels_for(isa).draw(copy.data(), n, sampling, scratch.data());

    const bool finite = std::all_of(logits.begin(), logits.end(), [](float x) { return std::isfinite(x); });
    CHECK((token == NOT_FINITE) == !finite);
    if (!finite) return 0;
    CHECK(0 <= token && token < n);
    const float mine = logits[static_cast<size_t>(token)], top = *std::max_element(logits.begin(), logits.end());
    if (sampling.temperature == 0) {
        CHECK(mine == top);
        return 0;
    }
    CHECK((static_cast<double>(top) - mine) / std::max(sampling.temperature, 1e-30) < 90);  // below, a weight is 0
    if (sampling.top_p == 0 && sampling.top_k > 0)
        CHECK(std::count_if(logits.begin(), logits.end(), [&](float x) { return x > mine; }) < sampling.top_k);
    return 0;
}
