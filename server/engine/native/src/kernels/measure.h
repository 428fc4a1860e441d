// What the machine can do at best: products without end, reading without end.
#pragma once

#include "products.h"

namespace pokegen {
namespace {

int64_t multiply_adds(int64_t n) {
    constexpr int K = 128;  // the operands stay in the first cache
    static int8_t rows[ROWS * K] = {1}, panels[PANELS * PANEL * K] = {1};
    static const int32_t row_sums[ROWS] = {1};
    const int64_t per_tile = static_cast<int64_t>(ROWS) * PANELS * PANEL * K;
    I total = {};
    for (int64_t i = 0; i < n / per_tile; ++i) {
        I sums[ROWS][PANELS][VECTORS];
        integer_products<ROWS, PANELS>(rows, K, row_sums, panels, K, sums);
        for (auto& row : sums)
            for (auto& panel : row)
                for (I vector : panel) total += vector;
        asm volatile("" : : "r"(rows), "r"(panels) : "memory");  // else the compiler sees that every round is the same
    }
    return lane_sum(total);
}

int64_t read_bytes(const std::byte* from, int64_t n) {
    I parity[8] = {};
    for (int64_t at = 0; at < n; at += sizeof parity) {
        I values[8];
        std::memcpy(values, from + at, sizeof values);
        for (int i = 0; i < 8; ++i) parity[i] ^= values[i];
    }
    for (int i = 1; i < 8; ++i) parity[0] ^= parity[i];
    return reduce(parity[0], [](I a, I b) { return a ^ b; });
}

}  // namespace
}  // namespace pokegen
