// How a token is drawn from logits; the meanings are those of server/engine/sampling.py, the reference.
#pragma once

#include <cstdint>

namespace pokegen {

struct Sampling {
    double temperature;  // 0: the likeliest token; up to MAX_TEMPERATURE
    double top_p;        // 0: no limit
    int32_t top_k;       // 0: no limit; not looked at where top_p is set
    uint64_t seed;
    uint64_t sample;    // number of the sample in its generation
    uint64_t position;  // where the new token will stand
};

constexpr double MAX_TEMPERATURE = 10;

// What `Draw` returns where a logit is not finite.
constexpr int32_t NOT_FINITE = -2;

// Draw from logits (n,). They lie in an array whose size is n rounded up to DRAW_PADDING; scratch has room for three.
constexpr int DRAW_PADDING = 64;
using Draw = int32_t (*)(float* logits, int n, const Sampling&, float* scratch);

}  // namespace pokegen
