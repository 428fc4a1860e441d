// Drawing a token: exact, and without sorting what is not drawn from.
#pragma once

#include <algorithm>
#include <limits>

#include "../philox.h"
#include "vectors.h"

namespace pokegen {
namespace {

// A type of this file's own: with the library's, the linker would keep one of the instruction sets' algorithms for all.
struct Descending {
    bool operator()(float a, float b) const { return a > b; }
};

// The smallest weight in the nucleus: the heaviest of w (n,), `total` in all, in descending order, until there is
// `target` before the next. Half of what is left is thrown away at a time, so nothing is sorted. `kept` has room for n,
// a multiple of W.
float nucleus(const float* w, float* kept, int n, double total, double target) {
    // The answer lies above `low` and not above `high`: 1 is the likeliest token's weight, and all that weigh less than
    // an n-th of what is left out are left out. The bits of positive floats are in the floats' order, so that halves
    // are taken of the logarithm.
    int32_t low, high;
    const float lowest = static_cast<float>((total - target) / n), highest = 1.0f;
    std::memcpy(&low, &lowest, sizeof low);
    std::memcpy(&high, &highest, sizeof high);
    --low;
    while (n > W && high - low > 1) {
        const int32_t middle = low + (high - low) / 2;
        float pivot;
        std::memcpy(&pivot, &middle, sizeof pivot);
        F masses = {};
        for (int i = 0; i < n; i += W) {
            const F x = load(w + i);
            masses += x > pivot ? x : F{};
        }
        const double mass = lane_sum(masses);
        const bool below = mass < target;  // the nucleus reaches down to the pivot, or deeper
        if (below) target -= mass;
        (below ? high : low) = middle;
        int count = 0;
        for (int i = 0; i < n; i += W) {
            const F x = load(w + i);
            count += append_where(below ? x <= pivot : x > pivot, x, kept + count);  // in place: never ahead of i
        }
        if (count == 0) return pivot;  // all are in the nucleus: only by rounding does their mass not reach the target
        w = kept;
        for (n = count; n % W != 0; ++n) kept[n] = 0;
    }
    std::copy(w, w + n, kept);
    std::sort(kept, kept + n, Descending());
    int last = 0;
    for (double mass = kept[0]; last + 1 < n && mass < target && kept[last + 1] > 0; mass += kept[last]) ++last;
    return kept[last];
}

// The k-th largest of the logits. `others` has room for as many.
float kth_largest(const float* logits, int n, const float* group_tops, int k, float* others) {
    const int n_groups = n / DRAW_PADDING;
    float bound = -std::numeric_limits<float>::infinity();
    if (k <= n_groups) {  // the k-th largest of the groups' tops is a bound: k logits at least are not below it
        std::copy(group_tops, group_tops + n_groups, others);
        std::nth_element(others, others + k - 1, others + n_groups, Descending());
        bound = others[k - 1];
    }
    int count = 0;
    for (int group = 0; group < n_groups; ++group) {
        if (group_tops[group] < bound) continue;
        for (int i = 0; i < DRAW_PADDING; i += W) {
            const F x = load(logits + group * DRAW_PADDING + i);
            count += append_where(x >= bound, x, others + count);
        }
    }
    std::nth_element(others, others + k - 1, others + count, Descending());
    return others[k - 1];
}

constexpr int SPAN = 1024;  // tokens whose weights are summed up: few sums, and few tokens to look at in the end

// The sums of the weights (n,) that are not below `lowest`, a sum for each span, and of all together.
double sum_up(const float* weights, int n, float lowest, float* masses) {
    double total = 0;
    for (int first = 0; first < n; first += SPAN) {
        F mass = {};
        for (int i = first; i < std::min(first + SPAN, n); i += W) {
            const F weight = load(weights + i);
            mass += weight >= lowest ? weight : F{};
        }
        total += * masses++ = lane_sum(mass);
    }
    return total;
}

// The token at which the weights (n,) that are not below `lowest`, added up in the order of the token ids, go beyond
// `threshold`: the span first, then the token in it. Where rounding leaves a little behind the last one, it is the
// last.
int32_t find(const float* weights, int n, float lowest, const float* masses, double threshold) {
    int first = 0;
    double left = threshold;
    for (int i = 0; i * SPAN < n; ++i) {
        if (masses[i] == 0) continue;
        first = i * SPAN;
        threshold = left;
        left -= masses[i];
        if (left < 0) break;
    }
    int32_t token = 0;
    for (int i = first; i < std::min(first + SPAN, n); ++i) {
        if (weights[i] == 0 || weights[i] < lowest) continue;
        token = i;
        if (threshold < weights[i]) break;
        threshold -= weights[i];
    }
    return token;
}

int32_t draw(float* logits, int n, const Sampling& sampling, float* scratch) {
    constexpr float LOWEST = std::numeric_limits<float>::lowest();
    const int padded = round_up(n, DRAW_PADDING), n_groups = padded / DRAW_PADDING;
    float *weights = scratch, *others = scratch + padded, *group_tops = scratch + 2 * padded,
          *masses = group_tops + n_groups;
    std::fill(logits + n, logits + padded, LOWEST);

    F largest = splat(LOWEST), strange = {};
    for (int group = 0; group < n_groups; ++group) {
        F top = splat(LOWEST);
        for (int i = 0; i < DRAW_PADDING; i += W) {
            const F x = load(logits + group * DRAW_PADDING + i);
            top = max(top, x);
            strange += x - x;  // not 0 where a logit is infinite or no number
        }
        group_tops[group] = lane_max(top);
        largest = max(largest, top);
    }
    if (!(lane_sum(strange) == 0)) return NOT_FINITE;
    const float top = lane_max(largest);

    if (sampling.temperature == 0) {
        const auto group = std::find(group_tops, group_tops + n_groups, top) - group_tops;
        const float* from = logits + group * DRAW_PADDING;
        return static_cast<int32_t>(std::find(from, from + DRAW_PADDING, top) - logits);
    }

    float lowest_logit = LOWEST;
    if (sampling.top_p == 0 && sampling.top_k > 0 && sampling.top_k < n)
        lowest_logit = kth_largest(logits, padded, group_tops, sampling.top_k, others);

    // Probabilities up to a factor: the likeliest token's is 1. The inverse must be finite however small the
    // temperature is, for 0 times it must stay 0.
    const auto inverse = static_cast<float>(std::min(1 / sampling.temperature, 1e30));
    for (int group = 0; group < n_groups; ++group) {
        float* to = weights + group * DRAW_PADDING;
        if (group_tops[group] < lowest_logit) {
            std::fill_n(to, DRAW_PADDING, 0.0f);
            continue;
        }
        for (int i = 0; i < DRAW_PADDING; i += W) {
            const F x = load(logits + group * DRAW_PADDING + i);
            store(to + i, x >= lowest_logit ? exp((x - top) * inverse) : F{});
        }
    }
    std::fill(weights + n, weights + padded, 0.0f);  // no tokens, even where no logit is above the padding's
    double total = sum_up(weights, padded, 0, masses);
    float lowest_weight = 0;
    if (sampling.top_p > 0 && sampling.top_p < 1) {
        lowest_weight = nucleus(weights, others, padded, total, sampling.top_p * total);
        total = sum_up(weights, padded, lowest_weight, masses);
    }
    const double number = uniform(sampling.seed, sampling.position, sampling.sample);
    return find(weights, padded, lowest_weight, masses, number * total);
}

}  // namespace
}  // namespace pokegen
