// Random numbers that depend on their key and counter alone.
#pragma once

#include <cstdint>

namespace pokegen {

// The first word of Philox4x64-10 under the key (seed, 0) at the counter (position, sample, 0, 0).
// Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
inline uint64_t philox(uint64_t seed, uint64_t position, uint64_t sample) {
    constexpr uint64_t MULTIPLIER[2] = {0xD2E7470EE14C6C93, 0xCA5A826395121157};
    constexpr uint64_t WEYL[2] = {0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B};
    uint64_t counter[4] = {position, sample, 0, 0};
    uint64_t key[2] = {seed, 0};
    for (int round = 0; round < 10; ++round) {
        const auto product0 = static_cast<unsigned __int128>(MULTIPLIER[0]) * counter[0];
        const auto product1 = static_cast<unsigned __int128>(MULTIPLIER[1]) * counter[2];
        const uint64_t next[4] = {
            static_cast<uint64_t>(product1 >> 64) ^ counter[1] ^ key[0],
            static_cast<uint64_t>(product1),
            static_cast<uint64_t>(product0 >> 64) ^ counter[3] ^ key[1],
            static_cast<uint64_t>(product0),
        };
        for (int i = 0; i < 4; ++i) counter[i] = next[i];
        key[0] += WEYL[0];
        key[1] += WEYL[1];
    }
    return counter[0];
}

// Uniform in [0, 1): the upper 53 bits.
inline double uniform(uint64_t seed, uint64_t position, uint64_t sample) {
    return static_cast<double>(philox(seed, position, sample) >> 11) * 0x1p-53;
}

}  // namespace pokegen
