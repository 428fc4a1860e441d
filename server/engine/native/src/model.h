// GPT-2 for a whole batch of sequences at once. Radford et al., "Language Models are Unsupervised Multitask Learners"
// (2019); server/engine/gpt2.py is the same in NumPy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <vector>

#include "huge_memory.h"
#include "layout.h"
#include "thread_pool.h"

namespace pokegen {

// A sequence's part in a step: `n` tokens, the first of which stands at `position`. `blocks` are the numbers of the
// sequence's blocks of the key/value cache, enough for position + n tokens. The logits (n_logits, V) of its last tokens
// are written to `logits`.
struct Slice {
    const int32_t* tokens;
    int n;
    int position;
    const int32_t* blocks;
    bool draws;
    Sampling sampling;
    int n_logits = 0;
    float* logits = nullptr;
};

class Model {
public:
    // The arena must outlive the model. Throws std::bad_alloc where the cache does not fit, and std::system_error where
    // a thread can't be started.
    Model(const Layout&, const std::byte* arena, int n_blocks, int n_threads, Isa);

    // Compute every slice and write the token drawn behind each to drawn: -1 where none was to be, NOT_FINITE where
    // the logits are not numbers. Threads that call the model at once are served one after the other.
    void step(const std::vector<Slice>&, int32_t* drawn);

    const Layout& layout() const { return layout_; }
    int n_blocks() const { return n_blocks_; }

    // Bytes of a block of the key/value cache, all layers together.
    static size_t block_bytes(const HParams&, Precision);

private:
    struct Row {
        const Slice* slice;
        int position;
    };

    void forward(const std::vector<Slice>&);
    void attention(int layer);
    void head(const std::vector<int>& rows);
    void hand_out_logits(int row, int n, float* out);
    template <class Body>
    void for_parts_of_product(int t, int n_panels, Body);
    void multiply(const float* a, int a_channels, int t, const MatrixPlace&, Epilogue, float* out,
                  ptrdiff_t out_stride);
    HeadCache head_cache(int layer, int head) const;

    const Layout layout_;
    const std::byte* arena_;
    const Kernels& kernels_;
    ThreadPool pool_;
    int n_blocks_;
    std::mutex one_at_a_time_;

    HugeMemory cache_;

    // The activations of a step's T rows; each array grows to what the largest step needs.
    std::vector<Row> rows_;
    std::vector<float> x_;       // (T, C) the residual stream
    std::vector<float> normal_;  // (T, C)
    std::vector<float> qkv_;     // (T, 3C)
    std::vector<float> wide_;    // (T, 4C)
    std::vector<float> logits_;  // (R, V) of the rows that draw, or whose logits are asked for
    std::vector<int8_t> int8_;   // (T, up to 4C) what is multiplied next
    std::vector<float> int8_scale_, int8_offset_;
    std::vector<int32_t> int8_sum_;
    std::vector<std::vector<float>> scratch_;  // of each thread
};

}  // namespace pokegen
