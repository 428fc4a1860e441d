// The kernels, written once in vectors of W floats and compiled for every instruction set: the file that includes this
// one names the table (KERNELS) and is compiled for its processor. Only `fma`, `dot` and `append_where` differ.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>

#include "kernels.h"
#include "philox.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pokegen {
namespace {  // each instruction set has its own

#if defined(__AVX512VNNI__)
constexpr int W = 16;
constexpr int ROWS = 8, PANELS = 3;  // of a tile: what fits into the registers with the operands
#elif defined(__AVX2__)
constexpr int W = 8;
constexpr int ROWS = 4, PANELS = 1;
#else
constexpr int W = 4;
constexpr int ROWS = 2, PANELS = 1;
#endif
constexpr int VECTORS = PANEL / W;  // of a panel's row

typedef float F __attribute__((vector_size(4 * W)));
typedef int32_t I __attribute__((vector_size(4 * W)));
typedef int8_t Bytes __attribute__((vector_size(4 * W)));   // W groups of DEPTH
typedef int8_t Narrow __attribute__((vector_size(W)));      // W integers, one a lane

inline F load(const float* from) {
    F x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
inline void store(float* to, F x) { std::memcpy(to, &x, sizeof x); }
inline F splat(float x) { return x - F{}; }
inline I splat(int32_t x) { return x - I{}; }
inline F max(F a, F b) { return a > b ? a : b; }
inline F absolute(F x) { return reinterpret_cast<F>(reinterpret_cast<I>(x) & 0x7FFFFFFF); }

inline F fma(F a, F b, F c) {
#if defined(__AVX512VNNI__)
    return reinterpret_cast<F>(_mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__AVX2__)
    return reinterpret_cast<F>(_mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#else
    return a * b + c;  // compiled without contraction: the same everywhere
#endif
}

// Over the lanes, half by half, which takes few steps one after the other.
inline float lane_sum(F x) {
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x[i] += x[i + half];
    return x[0];
}
inline int32_t lane_sum(I x) {
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x[i] += x[i + half];
    return x[0];
}
inline float lane_max(F x) {
    for (int half = W / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) x[i] = std::max(x[i], x[i + half]);
    return x[0];
}

// Where a sum of `dot` begins, for activations of this sum.
inline I dot_start([[maybe_unused]] int32_t sum) {
#if defined(__AVX512VNNI__)
    return splat(-128 * sum);  // the processor multiplies unsigned with signed: see dot
#else
    return I{};
#endif
}

// sum + the products of each lane's four bytes of b with the four bytes at a.
// All are -127 to 127, so that the 16-bit sums of AVX2 can't saturate: 2 * 127 * 127 < 2**15.
inline I dot(I sum, Bytes b, const int8_t* a) {
    int32_t four;
    std::memcpy(&four, a, sizeof four);
#if defined(__AVX512VNNI__)
    const auto unsigned_b = _mm512_xor_si512(reinterpret_cast<__m512i>(b), _mm512_set1_epi8(-128));  // b + 128
    return reinterpret_cast<I>(_mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), unsigned_b, _mm512_set1_epi32(four)));
#elif defined(__AVX2__)
    const auto weights = reinterpret_cast<__m256i>(b);
    const auto pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(_mm256_set1_epi32(four), weights));
    return sum + reinterpret_cast<I>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
    typedef int16_t Half __attribute__((vector_size(16)));
    typedef int8_t Eight __attribute__((vector_size(8)));
    typedef int16_t Four __attribute__((vector_size(8)));
    const Eight activations = {a[0], a[1], a[2], a[3], a[0], a[1], a[2], a[3]};
    const Half factor = __builtin_convertvector(activations, Half);
    const Half low = __builtin_convertvector(__builtin_shufflevector(b, b, 0, 1, 2, 3, 4, 5, 6, 7), Half) * factor;
    const Half high = __builtin_convertvector(__builtin_shufflevector(b, b, 8, 9, 10, 11, 12, 13, 14, 15), Half) * factor;
    const Half pairs = __builtin_shufflevector(low, high, 0, 2, 4, 6, 8, 10, 12, 14) +
                       __builtin_shufflevector(low, high, 1, 3, 5, 7, 9, 11, 13, 15);
    const Four even = __builtin_shufflevector(pairs, pairs, 0, 2, 4, 6);
    const Four odd = __builtin_shufflevector(pairs, pairs, 1, 3, 5, 7);
    return sum + __builtin_convertvector(even, I) + __builtin_convertvector(odd, I);
#endif
}

// Write the lanes of x where the mask is set to `to`, one behind the other, and return how many. Up to W floats are
// written in any case.
inline int append_where(I mask, F x, float* to) {
#if defined(__AVX512VNNI__)
    const auto bits = _mm512_movepi32_mask(reinterpret_cast<__m512i>(mask));
    _mm512_storeu_ps(to, _mm512_maskz_compress_ps(bits, reinterpret_cast<__m512>(x)));
    return __builtin_popcount(bits);
#else
    int n = 0;
    for (int i = 0; i < W; ++i) {
        to[n] = x[i];
        n -= mask[i];
    }
    return n;
#endif
}

// Adding and taking away 1.5 * 2**23 leaves the nearest integer, half to even, of a float below 2**22.
constexpr float ROUNDER = 12582912.0f;
inline F nearest(F x) { return (x + ROUNDER) - ROUNDER; }

// e**x with a relative error of about 2**-23; 0 below -87, which must be the largest x that is asked for below 0
// where a result of 0 matters. Cephes' expf: Moshier, netlib.org/cephes.
inline F exp(F x) {
    const F inside = max(x < 88.0f ? x : splat(88.0f), splat(-87.0f));
    const F n = nearest(inside * 1.44269504088896341f);
    const F r = fma(n, splat(2.12194440e-4f), fma(n, splat(-0.693359375f), inside));
    F p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r) + 1.0f;
    const F power = reinterpret_cast<F>((__builtin_convertvector(n, I) + 127) << 23);
    return x < -87.0f ? F{} : p * power;
}

// GELU in GPT-2's tanh form: x/2 (1 + tanh(z)) = x / (1 + exp(-2z)) with z = sqrt(2/pi) (x + 0.044715 x^3).
inline F gelu(F x) {
    const F z = x * fma(x * x, splat(0.044715f), splat(1.0f));
    return x / (exp(z * -1.5957691216057308f) + 1.0f);
}

// ---------------------------------------------------------------------------------------------------------------------
// Rows

void norm(const float* x, int n, int n_padded, const float* gain, const float* bias, float* out) {
    // x is padded with zeros too, so whole vectors may be summed.
    F sums = {};
    for (int i = 0; i < n_padded; i += W) sums += load(x + i);
    const float mean = lane_sum(sums) / static_cast<float>(n);
    F squares = {};
    for (int i = 0; i < n; i += W) {
        F centred = load(x + i) - mean;
        if (i + W > n)
            for (int lane = n - i; lane < W; ++lane) centred[lane] = 0;
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

void quantise(const float* x, int n, int n_padded, int8_t* out, float* scale, int32_t* sum) {
    F largest = {}, strange = {};
    int i = 0;
    for (; i + W <= n; i += W) {
        const F values = load(x + i);
        largest = max(largest, absolute(values));
        strange += values - values;  // not 0 where a value is infinite or no number
    }
    float bound = lane_max(largest), strangeness = lane_sum(strange);
    for (int rest = i; rest < n; ++rest) {
        bound = std::max(bound, std::fabs(x[rest]));
        strangeness += x[rest] - x[rest];
    }
    *scale = bound / 127.0f + strangeness;  // so that what went wrong is not hidden by integers
    const float inverse = bound > 0 ? 127.0f / bound : 0.0f;
    I sums = {};
    for (i = 0; i + W <= n; i += W) {
        const I q = __builtin_convertvector(nearest(load(x + i) * inverse), I);
        const Narrow narrow = __builtin_convertvector(q, Narrow);
        std::memcpy(out + i, &narrow, sizeof narrow);
        sums += q;
    }
    *sum = lane_sum(sums);
    for (; i < n; ++i) {
        out[i] = static_cast<int8_t>(std::nearbyint(x[i] * inverse));
        *sum += out[i];
    }
    for (; i < n_padded; ++i) out[i] = 0;
}

// ---------------------------------------------------------------------------------------------------------------------
// Products

inline void finish(Epilogue epilogue, F x, float* out) {
    if (epilogue == Epilogue::add)
        x += load(out);
    else if (epilogue == Epilogue::gelu)
        x = gelu(x);
    store(out, x);
}

// sums[r][p] = the integer products of R rows with the 16 columns of P panels. The loops over the tile must be
// unrolled to the end: else the sums would go through memory.
template <int R, int P>
inline void integer_products(const int8_t* a, ptrdiff_t a_stride, const int32_t* a_sum, const int8_t* panels, int k,
                             I (&sums)[R][P][VECTORS]) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sums[r][p][v] = dot_start(a_sum[r]);
    const ptrdiff_t panel_bytes = static_cast<ptrdiff_t>(k) * PANEL;
    for (int i = 0; i < k; i += DEPTH) {
        Bytes b[P][VECTORS];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) std::memcpy(b[p], panels + p * panel_bytes + i * PANEL, sizeof b[p]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) sums[r][p][v] = dot(sums[r][p][v], b[p][v], a + r * a_stride + i);
    }
}

template <int R, int P>
void tile_int8(const Int8Rows& a, int row, const Int8Matrix& b, int panel, Epilogue epilogue, float* out, ptrdiff_t out_stride) {
    I sums[R][P][VECTORS];
    integer_products<R, P>(a.values + row * a.stride, a.stride, a.sum + row,
                           b.panels + static_cast<ptrdiff_t>(panel) * b.k * PANEL, b.k, sums);
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
            const int column = (panel + p) * PANEL + v * W;
            const F scale = load(b.scale + column), bias = load(b.bias + column);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
                finish(epilogue, fma(__builtin_convertvector(sums[r][p][v], F), scale * a.scale[row + r], bias),
                       out + (row + r) * out_stride + column);
        }
}

template <int R, int P>
void tile_float32(const float* a, ptrdiff_t a_stride, int row, const Float32Matrix& b, int panel, Epilogue epilogue,
                  float* out, ptrdiff_t out_stride) {
    F sums[R][P][VECTORS] = {};
    const ptrdiff_t panel_floats = static_cast<ptrdiff_t>(b.k) * PANEL;
    const float* panels = b.panels + panel * panel_floats;
    a += row * a_stride;
    for (int i = 0; i < b.k; ++i) {
        F column[P][VECTORS];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) std::memcpy(column[p], panels + p * panel_floats + i * PANEL, sizeof column[p]);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v) sums[r][p][v] = fma(splat(a[r * a_stride + i]), column[p][v], sums[r][p][v]);
    }
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
        for (int v = 0; v < VECTORS; ++v) {
            const int at = (panel + p) * PANEL + v * W;
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
                finish(epilogue, sums[r][p][v] + load(b.bias + at), out + (row + r) * out_stride + at);
        }
}

// Call tile(R, P, row, panel) so that T rows and the panels from first to last are covered, in tiles of about equal height.
template <int P, class Tile, int... R>
inline void tile_of(int height, int row, int panel, Tile& tile, std::integer_sequence<int, R...>) {
    using std::integral_constant;
    ((height == R + 1 ? tile(integral_constant<int, R + 1>{}, integral_constant<int, P>{}, row, panel) : void()), ...);
}
template <class Tile>
inline void cover(int t, int first, int last, Tile tile) {
    const auto heights = std::make_integer_sequence<int, ROWS>{};
    const int n_tiles = (t + ROWS - 1) / ROWS;
    for (int panel = first; panel < last;) {
        const bool wide = panel + PANELS <= last;
        for (int i = 0, row = 0; i < n_tiles; ++i) {
            const int height = (t - row + n_tiles - i - 1) / (n_tiles - i);
            if (wide)
                tile_of<PANELS>(height, row, panel, tile, heights);
            else
                tile_of<1>(height, row, panel, tile, heights);
            row += height;
        }
        panel += wide ? PANELS : 1;
    }
}

void multiply_int8(const Int8Rows& a, int t, const Int8Matrix& b, int first, int last, Epilogue epilogue, float* out,
                   ptrdiff_t out_stride) {
    cover(t, first, last, [&](auto r, auto p, int row, int panel) {
        tile_int8<r(), p()>(a, row, b, panel, epilogue, out, out_stride);
    });
}

void multiply_float32(const float* a, ptrdiff_t a_stride, int t, const Float32Matrix& b, int first, int last,
                      Epilogue epilogue, float* out, ptrdiff_t out_stride) {
    cover(t, first, last, [&](auto r, auto p, int row, int panel) {
        tile_float32<r(), p()>(a, a_stride, row, b, panel, epilogue, out, out_stride);
    });
}

// ---------------------------------------------------------------------------------------------------------------------
// Attention

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
    quantise(k, d, k_padded, row, block.key_scales + slot, &sum);
    for (int i = 0; i < k_padded; i += DEPTH) std::memcpy(block.keys + i * BLOCK_TOKENS + slot * DEPTH, row + i, DEPTH);
    quantise(v, d, d, row, block.value_scales + slot, &sum);
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
    quantise(q, d, k_padded, query, &query_scale, &query_sum);
    query_scale /= std::sqrt(static_cast<float>(d));

    for (int i = 0; i < n_blocks; ++i) {
        const Int8Block block(cache.first_block + blocks[i] * cache.block_stride, d);
        I sums[1][1][VECTORS];
        integer_products<1, 1>(query, 0, &query_sum, block.keys, k_padded, sums);
        for (int v = 0; v < VECTORS; ++v)
            store(scratch + i * BLOCK_TOKENS + v * W,
                  __builtin_convertvector(sums[0][0][v], F) * (load(block.key_scales + v * W) * query_scale));
    }
    const float total = soften(scratch, n);

    float* mixed = scratch + n_blocks * BLOCK_TOKENS;  // (D,) padded to whole panels
    std::fill(mixed, mixed + d_panels * PANEL, 0.0f);
    for (int i = 0; i < n_blocks; ++i) {
        const Int8Block block(cache.first_block + blocks[i] * cache.block_stride, d);
        // The scales of the values go into the weights, and those into 7 bits relative to the block's largest. Slots that
        // were never written have some scale, but weight 0.
        float weights[BLOCK_TOKENS];
        for (int v = 0; v < BLOCK_TOKENS; v += W) {
            const F weight = load(scratch + i * BLOCK_TOKENS + v);
            store(weights + v, weight > 0.0f ? weight * load(block.value_scales + v) : F{});
        }
        int8_t integers[BLOCK_TOKENS];
        float scale;
        int32_t sum;
        quantise(weights, BLOCK_TOKENS, BLOCK_TOKENS, integers, &scale, &sum);
        if (scale == 0) continue;
        for (int p = 0; p < d_panels; ++p) {
            I sums[1][1][VECTORS];
            integer_products<1, 1>(integers, 0, &sum, block.values + p * PANEL * BLOCK_TOKENS, BLOCK_TOKENS, sums);
            for (int v = 0; v < VECTORS; ++v) {
                float* at = mixed + p * PANEL + v * W;
                store(at, fma(__builtin_convertvector(sums[0][0][v], F), splat(scale), load(at)));
            }
        }
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
            const auto* block = reinterpret_cast<const float*>(cache.first_block + blocks[token / BLOCK_TOKENS] * cache.block_stride);
            const float* values = block + d * BLOCK_TOKENS + (p * BLOCK_TOKENS + token % BLOCK_TOKENS) * PANEL;
            for (int v = 0; v < VECTORS; ++v) sums[v] = fma(splat(scratch[token]), load(values + v * W), sums[v]);
        }
        for (int v = 0; v < VECTORS; ++v) store(mixed + p * PANEL + v * W, sums[v]);
    }
    for (int i = 0; i < d; ++i) out[i] = mixed[i] / total;
}

// ---------------------------------------------------------------------------------------------------------------------
// Sampling

// What each token counts for when the best are chosen: its probability (up to a factor), or 1.
struct Weight {
    float top, factor;
    F operator()(F logits) const { return exp((logits - top) * factor); }
};
struct One {
    F operator()(F) const { return splat(1.0f); }
};

// The smallest of the candidates x (n,) before which, in descending order, there is less weight than `target`. What
// lies beyond it is thrown away half by half, so nothing is sorted. `other` has room for n and W more, as has x.
template <class WeightOf>
float select(float* x, float* other, int n, double target, WeightOf weight_of) {
    const float nothing = -std::numeric_limits<float>::infinity();
    while (true) {
        for (int i = n; i < round_up(n, W); ++i) x[i] = x[n - 1];
        F highest = load(x), lowest = highest;
        for (int i = W; i < n; i += W) {
            const F values = load(x + i);
            highest = max(highest, values);
            lowest = lowest < values ? lowest : values;
        }
        const float top = lane_max(highest), bottom = -lane_max(-lowest);
        if (top == bottom) return top;
        float pivot = bottom + (top - bottom) / 2;
        if (!(pivot < top)) pivot = bottom;

        for (int i = n; i < round_up(n, W); ++i) x[i] = nothing;  // counts for neither side
        int above = 0, below = 0;
        F mass = {};
        for (int i = 0; i < n; i += W) {
            const F values = load(x + i);
            const I is_above = values > pivot;
            mass += is_above ? weight_of(values) : F{};
            above += append_where(is_above, values, other + above);
            below += append_where((values <= pivot) & (values > nothing), values, x + below);  // never ahead of i
        }
        const double mass_above = lane_sum(mass);
        if (mass_above < target) {
            target -= mass_above;
            n = below;
        } else {
            std::swap(x, other);
            n = above;
        }
    }
}

int32_t draw(float* logits, int n, const Sampling& sampling, float* scratch) {
    const float nothing = -std::numeric_limits<float>::infinity();
    const int padded = round_up(n, DRAW_PADDING), n_groups = padded / DRAW_PADDING;
    for (int i = n; i < padded; ++i) logits[i] = nothing;

    // The largest of each group of 64, and whether all are finite: x - x is 0 for those alone.
    float *candidates = scratch, *other = scratch + padded, *group_tops = scratch + 2 * padded;
    F largest = splat(nothing), strange = {};
    for (int group = 0; group < n_groups; ++group) {
        F best = splat(nothing);
        for (int i = 0; i < DRAW_PADDING; i += W) best = max(best, load(logits + group * DRAW_PADDING + i));
        group_tops[group] = lane_max(best);
        largest = max(largest, best);
    }
    for (int i = 0; i + W <= n; i += W) {
        const F x = load(logits + i);
        strange += x - x;
    }
    float rest = lane_sum(strange);
    for (int i = n / W * W; i < n; ++i) rest += logits[i] - logits[i];
    if (!(rest == 0)) return NOT_FINITE;
    const float top = lane_max(largest);

    if (sampling.temperature == 0) {
        const float* group = std::find(group_tops, group_tops + n_groups, top);
        const float* from = logits + (group - group_tops) * DRAW_PADDING;
        return static_cast<int32_t>(std::find(from, from + DRAW_PADDING, top) - logits);
    }

    // An inverse that is still finite where the temperature is next to nothing: 0 times it must stay 0.
    const Weight weight_of{top, std::min(1.0f / sampling.temperature, 1e30f)};
    float threshold = nothing;
    if (sampling.top_p >= 1) {
        // keeps everything
    } else if (sampling.top_p > 0) {
        F masses = {};
        for (int i = 0; i < padded; i += W) masses += weight_of(load(logits + i));
        const double total = lane_sum(masses), target = static_cast<double>(sampling.top_p) * total;
        // All those together that are this unlikely weigh less than what top_p leaves out.
        const double unlikely = (total - target) / n;
        const float bound = unlikely > 0 ? top + static_cast<float>(std::log(unlikely)) / weight_of.factor : nothing;
        int count = 0;
        for (int i = 0; i < padded; i += W) {
            const F x = load(logits + i);
            count += append_where((x >= bound) & (x > nothing), x, candidates + count);
        }
        threshold = select(candidates, other, count, target, weight_of);
    } else if (sampling.top_k > 0 && sampling.top_k < n) {
        // The k-th largest of the groups' tops is a bound: k logits at least are not below it.
        float bound = nothing;
        if (sampling.top_k <= n_groups) {
            std::copy(group_tops, group_tops + n_groups, other);
            std::nth_element(other, other + sampling.top_k - 1, other + n_groups, std::greater<>());
            bound = other[sampling.top_k - 1];
        }
        int count = 0;
        for (int group = 0; group < n_groups; ++group) {
            if (group_tops[group] < bound) continue;
            for (int i = 0; i < DRAW_PADDING; i += W) {
                const F x = load(logits + group * DRAW_PADDING + i);
                count += append_where((x >= bound) & (x > nothing), x, candidates + count);
            }
        }
        threshold = select(candidates, other, count, sampling.top_k, One{});
    }

    // Invert the cumulative distribution in the order of the token ids: first find the group, then the token in it.
    float* masses = candidates;
    double total = 0;
    for (int group = 0; group < n_groups; ++group) {
        F mass = {};
        if (group_tops[group] >= threshold)
            for (int i = 0; i < DRAW_PADDING; i += W) {
                const F x = load(logits + group * DRAW_PADDING + i);
                mass += x >= threshold ? weight_of(x) : F{};
            }
        masses[group] = lane_sum(mass);
        total += masses[group];
    }
    double left = uniform(sampling.seed, sampling.position, sampling.sample) * total;
    int group = 0, last_group = 0;
    for (; group < n_groups; ++group) {
        if (masses[group] == 0) continue;
        last_group = group;
        if (left < masses[group]) break;
        left -= masses[group];
    }
    int32_t token = -1;
    for (int i = 0; i < DRAW_PADDING; i += W) {
        const F x = load(logits + last_group * DRAW_PADDING + i);
        const F weights = x >= threshold ? weight_of(x) : F{};
        for (int lane = 0; lane < W; ++lane) {
            if (weights[lane] == 0) continue;
            token = last_group * DRAW_PADDING + i + lane;  // rounding may leave a little behind the last one: it stays
            if (left < weights[lane]) return token;
            left -= weights[lane];
        }
    }
    return token;
}

// ---------------------------------------------------------------------------------------------------------------------
// Measuring the machine

int64_t multiply_adds(int64_t n) {
    constexpr int K = 128;  // the operands stay in the first cache
    static const int8_t rows[ROWS * K] = {1}, panels[PANELS * PANEL * K] = {1};
    static const int32_t row_sums[ROWS] = {1};
    const int64_t per_tile = static_cast<int64_t>(ROWS) * PANELS * PANEL * K;
    I total = {};
    for (int64_t i = 0; i < n / per_tile; ++i) {
        I sums[ROWS][PANELS][VECTORS];
        integer_products<ROWS, PANELS>(rows, K, row_sums, panels, K, sums);
        for (auto& row : sums)
            for (auto& panel : row)
                for (I vector : panel) total += vector;
        asm volatile("" : "+r"(i));  // else the compiler sees that every round is the same
    }
    return lane_sum(total);
}

int64_t read_bytes(const std::byte* from, int64_t n) {
    I sums[8] = {};
    for (int64_t at = 0; at < n; at += sizeof sums) {
        I values[8];
        std::memcpy(values, from + at, sizeof values);
        for (int i = 0; i < 8; ++i) sums[i] += values[i];
    }
    int64_t sum = 0;
    for (I vector : sums) sum += lane_sum(vector);
    return sum;
}

}  // namespace

extern const Kernels KERNELS;
const Kernels KERNELS = {norm,      quantise,    multiply_int8,  multiply_float32, keep_int8,     keep_float32,
                         attend_int8, attend_float32, draw, multiply_adds, read_bytes};

}  // namespace pokegen
