// A row by itself: layer norm, and to int8.
#pragma once

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace pokegen {
namespace {

void norm(const float* x, int n, int n_padded, const float* gain, const float* bias, float* out) {
    // x is padded with zeros too, so whole vectors may be summed.
    F sums = {};
    for (int i = 0; i < n_padded; i += W) sums += load(x + i);
    const float mean = lane_sum(sums) / static_cast<float>(n);
    F squares = {};
    int whole = 0;
    for (; whole + W <= n; whole += W) {
        const F centred = load(x + whole) - mean;
        squares = fma(centred, centred, squares);
    }
    if (whole < n) {
        F centred = load(x + whole) - mean;
        for (int lane = n - whole; lane < W; ++lane) centred[lane] = 0;
        squares = fma(centred, centred, squares);
    }
    const float factor = 1.0f / std::sqrt(lane_sum(squares) / static_cast<float>(n) + 1e-5f);
    for (int i = 0; i < n_padded; i += W) {
        F y = (load(x + i) - mean) * factor;
        if (gain) y = fma(y, load(gain + i), load(bias + i));
        store(out + i, y);
    }
    std::fill(out + n, out + n_padded, 0.0f);
}

void quantise(const float* x, int n, int n_padded, int8_t* out, float* scale, int32_t* sum) {
    F largest = {}, strange = {};
    int i = 0;
    for (; i + W <= n; i += W) {
        const F values = load(x + i);
        largest = max(largest, absolute(values));
        strange += values - values;  // not 0 where a value is infinite or no number
    }
    float bound = lane_max(largest), strangeness = lane_sum(strange);
    for (int rest = i; rest < n; ++rest) {
        bound = std::max(bound, std::fabs(x[rest]));
        strangeness += x[rest] - x[rest];
    }
    *scale = bound / 127.0f + strangeness;  // so that what went wrong is not hidden by integers
    if (!(strangeness == 0 && bound >= SMALLEST_BOUND)) {
        std::memset(out, 0, static_cast<size_t>(n_padded));
        *sum = 0;
        return;
    }
    const float inverse = 127.0f / bound;
    I sums = {};
    for (i = 0; i + W <= n; i += W) {
        const I q = __builtin_convertvector(nearest(load(x + i) * inverse), I);
        const Narrow narrow = __builtin_convertvector(q, Narrow);
        std::memcpy(out + i, &narrow, sizeof narrow);
        sums += q;
    }
    *sum = lane_sum(sums);
    for (; i < n; ++i) {
        out[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
        *sum += out[i];
    }
    for (; i < n_padded; ++i) out[i] = 0;
}

}  // namespace
}  // namespace pokegen
