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

struct Range {
    float smallest, largest;
    float strangeness;  // not 0 where a number is infinite or none
};

Range range(const float* x, int n) {
    F smallest = splat(x[0]), largest = smallest, strange = {};
    int i = 0;
    for (; i + W <= n; i += W) {
        const F values = load(x + i);
        smallest = min(smallest, values);
        largest = max(largest, values);
        strange += values - values;
    }
    Range found{lane_min(smallest), lane_max(largest), lane_sum(strange)};
    for (; i < n; ++i) {
        found.smallest = std::min(found.smallest, x[i]);
        found.largest = std::max(found.largest, x[i]);
        found.strangeness += x[i] - x[i];
    }
    return found;
}

// out (n_padded,) = the integers nearest to (x - middle) / scale, -127 to 127, and zeros behind them; their scale and
// sum.
void round_around(float middle, const Range& of_x, const float* x, int n, int n_padded, int8_t* out, float* scale,
                  int32_t* sum) {
    const float reach = std::max(of_x.largest - middle, middle - of_x.smallest);
    *scale = reach / 127.0f + of_x.strangeness;  // so that what went wrong is not hidden by integers
    if (!(of_x.strangeness == 0 && reach >= SMALLEST_BOUND)) {
        std::memset(out, 0, static_cast<size_t>(n_padded));
        *sum = 0;
        return;
    }
    const float inverse = 127.0f / reach;
    I sums = {};
    int i = 0;
    for (; i + W <= n; i += W) {
        const I q = __builtin_convertvector(nearest((load(x + i) - middle) * inverse), I);
        const Narrow narrow = __builtin_convertvector(q, Narrow);
        std::memcpy(out + i, &narrow, sizeof narrow);
        sums += q;
    }
    *sum = lane_sum(sums);
    for (; i < n; ++i) {
        out[i] = static_cast<int8_t>(std::nearbyint((x[i] - middle) * inverse));
        *sum += out[i];
    }
    for (; i < n_padded; ++i) out[i] = 0;
}

void quantise(const float* x, int n, int n_padded, int8_t* out, float* scale, float* offset, int32_t* sum) {
    const Range found = range(x, n);
    *offset = found.smallest / 2 + found.largest / 2;  // the sum of two large ones would be infinite
    round_around(*offset, found, x, n, n_padded, out, scale, sum);
}

// The same without an offset, for what is multiplied in attention.
void quantise_around_zero(const float* x, int n, int n_padded, int8_t* out, float* scale, int32_t* sum) {
    round_around(0.0f, range(x, n), x, n, n_padded, out, scale, sum);
}

}  // namespace
}  // namespace pokegen
