// A fuzzer's bytes as a row of choices; where they have come to an end, every choice is the first.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <limits>
#include <vector>

class Input {
public:
    Input(const uint8_t* data, size_t size) : data_(data), left_(size) {}

    bool empty() const { return left_ == 0; }

    template <class T>
    T raw() {
        T value{};
        const size_t size = std::min(sizeof value, left_);
        std::memcpy(&value, data_, size);
        data_ += size;
        left_ -= size;
        return value;
    }

    bool yes() { return raw<uint8_t>() & 1; }

    // lowest to highest, both included.
    int between(int lowest, int highest) {
        const auto count = static_cast<uint32_t>(highest - lowest) + 1;
        const uint32_t drawn = count <= 256 ? raw<uint8_t>() : raw<uint32_t>();
        return lowest + static_cast<int>(drawn % count);
    }

    template <class T>
    T of(std::initializer_list<T> values) {
        return values.begin()[between(0, static_cast<int>(values.size()) - 1)];
    }

    // Any number that a float can be, and often one that no weight and no activation should be.
    float number() {
        using Limits = std::numeric_limits<float>;
        switch (between(0, 7)) {
            case 0:
                return static_cast<float>(raw<int8_t>()) / 16;
            case 1:
                return raw<float>();
            case 2:
                return of({0.0f, -0.0f, 1.0f, -1.0f});
            case 3:
                return of({Limits::max(), Limits::lowest(), 1e30f, -1e30f});
            case 4:
                return of({Limits::min(), Limits::denorm_min(), 1e-36f, -1e-37f});
            case 5:
                return of({Limits::infinity(), -Limits::infinity(), Limits::quiet_NaN()});
            default:
                return static_cast<float>(raw<int16_t>()) / 256;
        }
    }

    // n numbers, of which any many may be the same.
    std::vector<float> numbers(size_t n) {
        std::vector<float> values(n);
        for (size_t i = 0; i < n;) {
            const float value = number();
            const size_t times = empty() ? n : static_cast<size_t>(between(0, 3) ? 1 : between(1, 256));
            for (size_t last = std::min(n, i + times); i < last; ++i) values[i] = value;
        }
        return values;
    }

private:
    const uint8_t* data_;
    size_t left_;
};
