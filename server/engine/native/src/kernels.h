// The arithmetic of a step, as a table of functions that exists once for every instruction set.
//
// A weight matrix of K rows (inputs) and N columns (outputs) is packed in panels of 16 columns, so that one vector
// holds what one activation is multiplied with. Keys and values are packed the same way, so that attention is
// made of the same products. Shapes are written as in GPT-2's code: T tokens, C channels, D channels of a head.
//
// Whatever is computed for one row is computed in the same order whatever other rows there are: a row's numbers
// never depend on the batch, on the number of threads, or on how a prompt was cut into chunks.
#pragma once

#include <cstddef>
#include <cstdint>

#include "sampling.h"

namespace pokegen {

constexpr int PANEL = 16;  // columns that lie side by side
constexpr int DEPTH = 4;   // int8: consecutive rows of one column that lie side by side, as dot products take them
constexpr int BLOCK_TOKENS = 16;  // tokens of a block of the key/value cache: a block's keys are one panel

// Numbers whose largest is below this are zeros in int8: 127 divided by it would be infinite.
constexpr float SMALLEST_BOUND = 1e-36f;

constexpr int round_up(int n, int multiple) { return (n + multiple - 1) / multiple * multiple; }

// panels: N/16 panels of K/4 groups of 16 columns by 4 rows. Column n stands for scale[n] times its integers, and adds
// up to column_sum[n].
struct Int8Matrix {
    const int8_t* panels;
    const float* scale;       // (N,)
    const float* column_sum;  // (N,)
    const float* bias;        // (N,)
    int k;                    // a multiple of DEPTH; rows beyond the matrix's own are 0
    int n_panels;
};

// panels: N/16 panels of K rows of 16 columns.
struct Float32Matrix {
    const float* panels;
    const float* bias;  // (N,)
    int k;
    int n_panels;
};

// Rows of activations in int8: row t stands for offset[t] plus scale[t] times its integers, whose sum is sum[t]. The
// offset is the middle between a row's smallest and largest number: what a GELU gives is hardly ever negative, and
// around zero half of the integers would stand for nothing.
struct Int8Rows {
    const int8_t* values;
    const float* scale;
    const float* offset;
    const int32_t* sum;
    ptrdiff_t stride;
};

// What is done with a product before it is stored.
enum class Epilogue { store, add, gelu };

// The keys and values of one head of one layer: block b's begin at first_block + b * block_stride.
struct HeadCache {
    std::byte* first_block;
    ptrdiff_t block_stride;
};

// int8: a block's keys (D/4, 16 tokens, 4), their scales (16,), its values (D/16, 4, 16 channels, 4 tokens), and
// theirs. float32: keys (D, 16 tokens), values (D/16, 16 tokens, 16 channels).
constexpr size_t head_block_bytes_int8(int d) {
    return static_cast<size_t>(round_up(d, DEPTH) + round_up(d, PANEL)) * BLOCK_TOKENS +
           2 * sizeof(float) * BLOCK_TOKENS;
}
constexpr size_t head_block_bytes_float32(int d) {
    return static_cast<size_t>(d + round_up(d, PANEL)) * BLOCK_TOKENS * sizeof(float);
}

struct Kernels {
    // out (n,) = x (n,) with mean 0 and variance 1, times gain, plus bias; both may be null. n_padded - n zeros follow.
    void (*norm)(const float* x, int n, int n_padded, const float* gain, const float* bias, float* out);

    // out (n_padded,), with zeros behind the n integers, scale, offset and sum: see Int8Rows. n is 1 or more.
    void (*quantise)(const float* x, int n, int n_padded, int8_t* out, float* scale, float* offset, int32_t* sum);

    // The columns of panels first to last - 1 of out (T, N) = epilogue(a (T, K) times b (K, N) + bias).
    void (*multiply_int8)(const Int8Rows& a, int t, const Int8Matrix& b, int first, int last, Epilogue, float* out,
                          ptrdiff_t out_stride);
    void (*multiply_float32)(const float* a, ptrdiff_t a_stride, int t, const Float32Matrix& b, int first, int last,
                             Epilogue, float* out, ptrdiff_t out_stride);

    // Keep the keys and values (D,) of the token at `slot` of `block`.
    void (*keep_int8)(const float* k, const float* v, int d, std::byte* block, int slot);
    void (*keep_float32)(const float* k, const float* v, int d, std::byte* block, int slot);

    // out (D,): one head's attention of query q (D,) to the first n tokens of the sequence that owns `blocks`.
    // scratch: n floats, rounded up to whole blocks, and D rounded up to a panel.
    void (*attend_int8)(const float* q, int d, HeadCache, const int32_t* blocks, int n, float* scratch, float* out);
    void (*attend_float32)(const float* q, int d, HeadCache, const int32_t* blocks, int n, float* scratch, float* out);

    // Draw a token; see sampling.h.
    Draw draw;

    // For measuring the machine: n int8 multiply-adds, and n bytes read (n a multiple of 1,024). What they return only
    // shows that it was done.
    int64_t (*multiply_adds)(int64_t n);
    int64_t (*read_bytes)(const std::byte* from, int64_t n);
};

enum class Isa { portable, avx2, avx512_vnni };

// Whether this processor and operating system can run it.
bool is_supported(Isa);

// The best that is supported.
Isa best_isa();

const Kernels& kernels_for(Isa);

}  // namespace pokegen
