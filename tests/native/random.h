// Random numbers and models, the same at every run.
#pragma once

#include <cstdlib>
#include <memory>
#include <random>
#include <vector>

#include "layout.h"

inline std::mt19937& generator() {
    static std::mt19937 engine(1);
    return engine;
}

// lowest to highest, both included.
inline int between(int lowest, int highest) { return std::uniform_int_distribution<int>(lowest, highest)(generator()); }

inline std::vector<float> normal(size_t n, float deviation = 1) {
    std::normal_distribution<float> distribution(0, deviation);
    std::vector<float> values(n);
    for (float& value : values) value = distribution(generator());
    return values;
}

// Bytes, aligned as an arena must be, with nothing behind them that the address sanitizer would let through.
struct Free {
    void operator()(std::byte* memory) const { std::free(memory); }
};
using Bytes = std::unique_ptr<std::byte, Free>;

// `size` zeros; a multiple of 64.
inline Bytes zeros(size_t size) {
    auto* memory = static_cast<std::byte*>(std::aligned_alloc(64, size));
    for (size_t i = 0; i < size; ++i) memory[i] = std::byte{0};
    return Bytes(memory);
}

// Odd sizes as well as those that fill whole panels.
inline pokegen::HParams random_shape() {
    const int n_head = between(1, 3);
    return {between(1, 200), between(1, 80), n_head * between(1, 24), n_head, between(1, 3)};
}
