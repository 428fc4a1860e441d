// Draws from logits that no model should have: always a token that may be drawn, or the word that they are no numbers.
#include "sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "check.h"
#include "kernels.h"
#include "random.h"

using namespace pokegen;

namespace {

using Logits = std::vector<float>;

constexpr float LARGEST = 1e38f;

int32_t draw(const Kernels& kernels, const Logits& logits, const Sampling& sampling) {
    const auto n = static_cast<int>(logits.size());
    Logits copy = logits;
    copy.resize(static_cast<size_t>(round_up(n, DRAW_PADDING)), std::nanf(""));  // what stands there does not count
    std::vector<float> scratch(3 * copy.size(), std::nanf(""));
    return kernels.draw(copy.data(), n, sampling, scratch.data());
}

// Whether top_p or top_k leave the token a chance. Probabilities are those of `draw` up to rounding.
bool may_be_drawn(const Logits& logits, const Sampling& sampling, int32_t token) {
    const float mine = logits[static_cast<size_t>(token)];
    const float top = *std::max_element(logits.begin(), logits.end());
    if (sampling.temperature == 0) return mine == top;
    if (sampling.top_p > 0) {
        const auto weight = [&](float logit) {
            return std::exp((static_cast<double>(logit) - top) / sampling.temperature);
        };
        double total = 0, before = 0;
        for (float logit : logits) {
            total += weight(logit);
            if (weight(logit) > weight(mine) * (1 + 1e-6)) before += weight(logit);
        }
        return before < sampling.top_p * total * (1 + 1e-5) + 1e-12;
    }
    const auto better = std::count_if(logits.begin(), logits.end(), [&](float logit) { return logit > mine; });
    return sampling.top_k == 0 || better < sampling.top_k;
}

Logits awkward(size_t n) {
    Logits logits = normal(n, 4);
    const auto any = [&]() -> float& { return logits[static_cast<size_t>(between(0, static_cast<int>(n) - 1))]; };
    switch (between(0, 7)) {
        case 0:
            std::fill(logits.begin(), logits.end(), 0.0f);
            break;  // nothing but ties
        case 1:
            std::fill(logits.begin(), logits.end(), -LARGEST);
            any() = LARGEST;
            break;
        case 2:
            std::fill(logits.begin(), logits.end(), LARGEST);
            any() = -LARGEST;
            break;
        case 3:
            for (float& x : logits) x = std::round(x);
            break;  // many ties
        case 4:
            for (float& x : logits) x *= 1e-20f;
            break;  // hardly different
        case 5:
            any() = 80;
            break;  // one that takes all
        case 6:
            for (float& x : logits) x *= 1e30f;
            break;
        default:
            break;
    }
    return logits;
}

void a_token_that_may_be_drawn(const Kernels& kernels) {
    const int n = between(0, 19) ? between(1, 300) : between(1'000, 60'000);
    const Logits logits = awkward(static_cast<size_t>(n));
    const double temperatures[] = {0, 5e-324, 1e-38, 1e-3, 0.7, 1, 10};
    const double top_ps[] = {0, 5e-324, 1e-7, 0.1, 0.9, 0.999999, 1};
    const int32_t top_ks[] = {0, 1, 2, 40, n - 1, n, n + 1, std::numeric_limits<int32_t>::max()};
    for (const double temperature : temperatures) {
        const Sampling sampling{temperature,
                                top_ps[between(0, 6)],
                                top_ks[between(0, 7)],
                                static_cast<uint64_t>(between(0, 1 << 30)),
                                0,
                                7};
        const int32_t token = draw(kernels, logits, sampling);
        CHECK(0 <= token && token < n);
        CHECK(may_be_drawn(logits, sampling, token));
        CHECK(token == draw(kernels, logits, sampling));
    }
}

void what_is_no_number_is_said_to_be_none(const Kernels& kernels) {
    Logits logits = awkward(static_cast<size_t>(between(1, 300)));
    const float strange[] = {std::nanf(""), std::numeric_limits<float>::infinity(),
                             -std::numeric_limits<float>::infinity()};
    logits[static_cast<size_t>(between(0, static_cast<int>(logits.size()) - 1))] = strange[between(0, 2)];
    for (const double temperature : {0.0, 0.7})
        for (const double top_p : {0.0, 0.9})
            CHECK(draw(kernels, logits, {temperature, top_p, 40, 1, 0, 7}) == NOT_FINITE);
}

}  // namespace

int main() {
    for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512_vnni}) {
        if (!is_supported(isa)) continue;
        for (int round = 0; round < 200; ++round) {
            a_token_that_may_be_drawn(kernels_for(isa));
            what_is_no_number_is_said_to_be_none(kernels_for(isa));
        }
    }
}
