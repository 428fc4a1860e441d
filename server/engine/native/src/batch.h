// The arguments of a step as whoever calls the core gives them: checked, and made into slices.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "model.h"

namespace pokegen {

// An array that belongs to somebody else.
template <class T>
struct View {
    const T* data;
    size_t size;

    const T& operator[](size_t i) const { return data[i]; }
};

// B slices: one entry of each for every slice, but for `tokens` and `blocks`, which are those of all slices, one behind
// the other. `lengths` and `n_blocks` say how many of them are each slice's, `positions` where its first token stands.
struct Batch {
    View<int32_t> tokens, lengths, positions, blocks, n_blocks;
    View<uint8_t> draws;
    View<double> temperature;
    View<int32_t> top_k;
    View<double> top_p;
    View<uint64_t> seeds, samples;
    View<int32_t> n_logits;
};

// The slices of a batch, for a model of these sizes with `n_blocks` blocks; where their logits go is still to be said.
// Throws std::invalid_argument for all that would lead a step outside of its memory.
std::vector<Slice> slices_of(const Batch&, const HParams&, int n_blocks);

// `sampling` itself. Throws std::invalid_argument where a number is out of range.
Sampling checked(const Sampling& sampling);

}  // namespace pokegen
