// Keeping keys and values, and attending to them.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "products.h"
#include "rows.h"

namespace pokegen {
namespace {

// The parts of one head in one int8 block.
struct Int8Block {
    int8_t* keys;
    float* key_scales;
    int8_t* values;
    float* value_scales;

    Int8Block(std::byte* block, int d) {
        keys = reinterpret_cast<int8_t*>(block);
        key_scales = reinterpret_cast<float*>(keys + round_up(d, DEPTH) * BLOCK_TOKENS);
        values = reinterpret_cast<int8_t*>(key_scales + BLOCK_TOKENS);
        value_scales = reinterpret_cast<float*>(values + round_up(d, PANEL) * BLOCK_TOKENS);
    }
};

constexpr int MAX_HEAD_CHANNELS = 1024;  // checked where a model is made

void keep_int8(const float* k, const float* v, int d, std::byte* at, int slot) {
    const Int8Block block(at, d);
    int8_t row[MAX_HEAD_CHANNELS];
    int32_t sum;
    const int k_padded = round_up(d, DEPTH);
    quantise_around_zero(k, d, k_padded, row, block.key_scales + slot, &sum);
    for (int i = 0; i < k_padded; i += DEPTH) std::memcpy(block.keys + i * BLOCK_TOKENS + slot * DEPTH, row + i, DEPTH);
    quantise_around_zero(v, d, d, row, block.value_scales + slot, &sum);
    // Channel i of token `slot`: panel i / 16, group slot / 4, column i % 16, byte slot % 4.
    int8_t* group = block.values + slot / DEPTH * PANEL * DEPTH + slot % DEPTH;
    for (int i = 0; i < d; ++i) group[i / PANEL * PANEL * BLOCK_TOKENS + i % PANEL * DEPTH] = row[i];
}

void keep_float32(const float* k, const float* v, int d, std::byte* at, int slot) {
    float* keys = reinterpret_cast<float*>(at);
    float* values = keys + d * BLOCK_TOKENS;
    for (int i = 0; i < d; ++i) keys[i * BLOCK_TOKENS + slot] = k[i];
    for (int i = 0; i < d; ++i) values[(i / PANEL * BLOCK_TOKENS + slot) * PANEL + i % PANEL] = v[i];
}

// Turn the scores (n, padded to whole blocks) into weights e**(score - largest), 0 behind the n; returns their sum.
float soften(float* scores, int n) {
    const int padded = round_up(n, BLOCK_TOKENS);
    std::fill(scores + n, scores + padded, -std::numeric_limits<float>::infinity());
    F largest = load(scores);
    for (int i = W; i < padded; i += W) largest = max(largest, load(scores + i));
    const float top = lane_max(largest);
    F sums = {};
    for (int i = 0; i < padded; i += W) {
        const F weights = exp(load(scores + i) - top);
        store(scores + i, weights);
        sums += weights;
    }
    return lane_sum(sums);
}

void attend_int8(const float* q, int d, HeadCache cache, const int32_t* blocks, int n, float* scratch, float* out) {
    const int n_blocks = (n + BLOCK_TOKENS - 1) / BLOCK_TOKENS, d_panels = round_up(d, PANEL) / PANEL;
    const int k_padded = round_up(d, DEPTH);
    int8_t query[MAX_HEAD_CHANNELS];
    float query_scale;
    int32_t query_sum;
    quantise_around_zero(q, d, k_padded, query, &query_scale, &query_sum);
    query_scale /= std::sqrt(static_cast<float>(d));

    for (int i = 0; i < n_blocks; ++i) {
        const Int8Block block(cache.first_block + blocks[i] * cache.block_stride, d);
        // The next head's keys and values lie behind these. Whoever computes it: it is on this processor.
        const auto* next = reinterpret_cast<const char*>(block.keys) + head_block_bytes_int8(d);
        for (size_t line = 0; line < head_block_bytes_int8(d); line += 64) __builtin_prefetch(next + line, 0, 2);
        I sums[1][1][VECTORS];
        integer_products<1, 1>(query, 0, &query_sum, block.keys, k_padded, sums);
        for (int v = 0; v < VECTORS; ++v)
            store(scratch + i * BLOCK_TOKENS + v * W,
                  __builtin_convertvector(sums[0][0][v], F) * (load(block.key_scales + v * W) * query_scale));
    }
    const float total = soften(scratch, n);

    // The scales of the values go into the weights, and these into 7 bits relative to their block's largest: what is
    // small beside another block's weights still counts. They take the place of the scores: 16 bytes, then the scale.
    // Slots that were never written have weight 0, whatever their scale.
    for (int i = 0; i < n_blocks; ++i) {
        const Int8Block block(cache.first_block + blocks[i] * cache.block_stride, d);
        float* scores = scratch + i * BLOCK_TOKENS;
        float weights[BLOCK_TOKENS];
        for (int v = 0; v < BLOCK_TOKENS; v += W) {
            const F weight = load(scores + v);
            store(weights + v, weight > 0.0f ? weight * load(block.value_scales + v) : F{});
        }
        int8_t integers[BLOCK_TOKENS];
        int32_t sum;
        quantise_around_zero(weights, BLOCK_TOKENS, BLOCK_TOKENS, integers, scores + 4, &sum);
        std::memcpy(scores, integers, sizeof integers);
        std::memcpy(scores + 5, &sum, sizeof sum);
    }
    float* mixed = scratch + n_blocks * BLOCK_TOKENS;  // (D,) padded to whole panels
    for (int p = 0; p < d_panels; ++p) {
        F mix[VECTORS] = {};
        for (int i = 0; i < n_blocks; ++i) {
            const Int8Block block(cache.first_block + blocks[i] * cache.block_stride, d);
            const float* weights = scratch + i * BLOCK_TOKENS;
            int8_t integers[BLOCK_TOKENS];
            int32_t sum;
            std::memcpy(integers, weights, sizeof integers);
            std::memcpy(&sum, weights + 5, sizeof sum);
            I sums[1][1][VECTORS];
            integer_products<1, 1>(integers, 0, &sum, block.values + p * PANEL * BLOCK_TOKENS, BLOCK_TOKENS, sums);
            for (int v = 0; v < VECTORS; ++v)
                mix[v] = fma(__builtin_convertvector(sums[0][0][v], F), splat(weights[4]), mix[v]);
        }
        for (int v = 0; v < VECTORS; ++v) store(mixed + p * PANEL + v * W, mix[v]);
    }
    for (int i = 0; i < d; ++i) out[i] = mixed[i] / total;
}

void attend_float32(const float* q, int d, HeadCache cache, const int32_t* blocks, int n, float* scratch, float* out) {
    const int n_blocks = (n + BLOCK_TOKENS - 1) / BLOCK_TOKENS, d_panels = round_up(d, PANEL) / PANEL;
    const float factor = 1.0f / std::sqrt(static_cast<float>(d));
    for (int i = 0; i < n_blocks; ++i) {
        const float* keys = reinterpret_cast<const float*>(cache.first_block + blocks[i] * cache.block_stride);
        F scores[VECTORS] = {};
        for (int c = 0; c < d; ++c)
            for (int v = 0; v < VECTORS; ++v)
                scores[v] = fma(splat(q[c]), load(keys + c * BLOCK_TOKENS + v * W), scores[v]);
        for (int v = 0; v < VECTORS; ++v) store(scratch + i * BLOCK_TOKENS + v * W, scores[v] * factor);
    }
    const float total = soften(scratch, n);

    float* mixed = scratch + n_blocks * BLOCK_TOKENS;
    for (int p = 0; p < d_panels; ++p) {
        F sums[VECTORS] = {};
        for (int token = 0; token < n; ++token) {
            const auto* block =
                reinterpret_cast<const float*>(cache.first_block + blocks[token / BLOCK_TOKENS] * cache.block_stride);
            const float* values = block + d * BLOCK_TOKENS + (p * BLOCK_TOKENS + token % BLOCK_TOKENS) * PANEL;
            for (int v = 0; v < VECTORS; ++v) sums[v] = fma(splat(scratch[token]), load(values + v * W), sums[v]);
        }
        for (int v = 0; v < VECTORS; ++v) store(mixed + p * PANEL + v * W, sums[v]);
    }
    for (int i = 0; i < d; ++i) out[i] = mixed[i] / total;
}

}  // namespace
}  // namespace pokegen
