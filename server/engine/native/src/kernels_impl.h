// The kernels, written once in vectors of W floats and compiled for every instruction set: the file that includes this
// one names the table (KERNELS) and is compiled for its processor. Only `fma`, `dot` and `append_where` differ.
#include <algorithm>
#include <cmath>
#include <cstring>
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
typedef int8_t Bytes __attribute__((vector_size(4 * W)));  // W groups of DEPTH
typedef int8_t Narrow __attribute__((vector_size(W)));     // W integers, one a lane

template <class Vector>
inline Vector load_as(const void* from) {
    Vector x;
    std::memcpy(&x, from, sizeof x);
    return x;
}
inline F load(const float* from) { return load_as<F>(from); }
inline void store(float* to, F x) { std::memcpy(to, &x, sizeof x); }
inline F splat(float x) { return x - F{}; }
inline I splat(int32_t x) { return x - I{}; }
inline F max(F a, F b) { return a > b ? a : b; }
inline F min(F a, F b) { return a < b ? a : b; }
inline F absolute(F x) { return reinterpret_cast<F>(reinterpret_cast<I>(x) & 0x7FFFFFFF); }

inline F fma(F a, F b, F c) {
#if defined(__AVX512VNNI__)
    return reinterpret_cast<F>(
        _mm512_fmadd_ps(reinterpret_cast<__m512>(a), reinterpret_cast<__m512>(b), reinterpret_cast<__m512>(c)));
#elif defined(__AVX2__)
    return reinterpret_cast<F>(
        _mm256_fmadd_ps(reinterpret_cast<__m256>(a), reinterpret_cast<__m256>(b), reinterpret_cast<__m256>(c)));
#else
    return a * b + c;  // compiled without contraction: the same everywhere
#endif
}

// Over the lanes: every step puts the halves of what is left on top of each other.
template <class Vector, class Operation>
inline auto reduce(Vector x, Operation operation) {
    I lane;
    for (int i = 0; i < W; ++i) lane[i] = i;
#pragma GCC unroll 4
    for (int half = W / 2; half > 0; half /= 2) x = operation(x, __builtin_shuffle(x, lane ^ half));
    return x[0];
}
inline float lane_sum(F x) {
    return reduce(x, [](F a, F b) { return a + b; });
}
inline int32_t lane_sum(I x) {
    return reduce(x, [](I a, I b) { return a + b; });
}
inline float lane_max(F x) { return reduce(x, max); }

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
    return reinterpret_cast<I>(
        _mm512_dpbusd_epi32(reinterpret_cast<__m512i>(sum), unsigned_b, _mm512_set1_epi32(four)));
#elif defined(__AVX2__)
    const auto weights = reinterpret_cast<__m256i>(b);
    const auto pairs =
        _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(_mm256_set1_epi32(four), weights));
    return sum + reinterpret_cast<I>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
#else
    // In vectors of 16-bit halves of the four: odd bytes are shifted down, even ones up and down again.
    typedef int16_t Halves __attribute__((vector_size(4 * W)));
    const auto weights = reinterpret_cast<Halves>(b), factors = reinterpret_cast<Halves>(splat(four));
    const auto pairs =
        reinterpret_cast<I>(((weights << 8) >> 8) * ((factors << 8) >> 8) + (weights >> 8) * (factors >> 8));
    return sum + ((pairs << 16) >> 16) + (pairs >> 16);
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

// The nearest integer, half to even, of a float below 2**22: adding and taking away 1.5 * 2**23 leaves no other digits.
inline F nearest(F x) {
    constexpr float ROUNDER = 12582912.0f;
    return (x + ROUNDER) - ROUNDER;
}

// e**x with a relative error of about 2**-23, for x up to 88; 0 below -87.7. Cephes' expf: Moshier, netlib.org/cephes.
inline F exp(F x) {
    const F inside = max(splat(-88.0f), x);              // in this order: what is no number passes through
    const F n = nearest(inside * 1.44269504088896341f);  // -127 at the lower end
    const F r = fma(n, splat(2.12194440e-4f), fma(n, splat(-0.693359375f), inside));
    F p = splat(1.9875691500e-4f);
    p = fma(p, r, splat(1.3981999507e-3f));
    p = fma(p, r, splat(8.3334519073e-3f));
    p = fma(p, r, splat(4.1665795894e-2f));
    p = fma(p, r, splat(1.6666665459e-1f));
    p = fma(p, r, splat(5.0000001201e-1f));
    p = fma(p, r * r, r) + 1.0f;
    return p * reinterpret_cast<F>((__builtin_convertvector(n, I) + 127) << 23);  // 2**n, and 0 for -127
}

// GELU in GPT-2's tanh form: x/2 (1 + tanh(z)) = x / (1 + exp(-2z)) with z = sqrt(2/pi) (x + 0.044715 x^3).
inline F gelu(F x) {
    const F z = x * fma(x * x, splat(0.044715f), splat(1.0f));
    return x / (exp(min(z * -1.5957691216057308f, splat(88.0f))) + 1.0f);
}

// ---------------------------------------------------------------------------------------------------------------------
// Rows

void norm(const float* x, int n, int n_padded, const float* gain, const float* bias, float* out) {
    // x is padded with zeros too, so whole vectors may be summed.
    F sums = {};
    for (int i = 0; i < n_padded; i += W) sums += load(x + i);
    const float mean = lane_sum(sums) / static_cast<float>(n);
    F squares = {};
    int whole = 0;
    for (; whole + W <= n; whole += W) {
        const F centred = load(x + whole) - mean;
        squares = fma(centred, centred, squares);
    }
    if (whole < n) {
        F centred = load(x + whole) - mean;
        for (int lane = n - whole; lane < W; ++lane) centred[lane] = 0;
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
    if (!(strangeness == 0 && bound >= SMALLEST_BOUND)) {
        std::memset(out, 0, static_cast<size_t>(n_padded));
        *sum = 0;
        return;
    }
    const float inverse = 127.0f / bound;
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

// Bytes that are asked of the memory while something else is computed, `lines` cache lines every PREFETCH_ROWS rows.
constexpr int PREFETCH_ROWS = 32;
struct Prefetch {
    const int8_t* at = nullptr;
    int lines = 0;

    inline void next() {
        for (int i = 0; i < lines; ++i, at += 64) __builtin_prefetch(at, 0, 2);
    }
};

// sums[r][p] = the integer products of R rows with the 16 columns of P panels. The loops over the tile must be
// unrolled to the end: else the sums would go through memory.
template <int R, int P>
inline void integer_products(const int8_t* a, ptrdiff_t a_stride, const int32_t* a_sum, const int8_t* panels, int k,
                             I (&sums)[R][P][VECTORS], Prefetch ahead = {}) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) sums[r][p][v] = dot_start(a_sum[r]);
    const ptrdiff_t panel_bytes = static_cast<ptrdiff_t>(k) * PANEL;
    for (int chunk = 0; chunk < k; chunk += PREFETCH_ROWS) {
        ahead.next();
        for (int i = chunk; i < std::min(chunk + PREFETCH_ROWS, k); i += DEPTH) {
            Bytes b[P][VECTORS];
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v)
                    b[p][v] = load_as<Bytes>(panels + p * panel_bytes + i * PANEL + v * W * DEPTH);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
                for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                    for (int v = 0; v < VECTORS; ++v) sums[r][p][v] = dot(sums[r][p][v], b[p][v], a + r * a_stride + i);
        }
    }
}

template <int R, int P>
void tile_int8(const Int8Rows& a, int row, const Int8Matrix& b, int panel, Prefetch ahead, Epilogue epilogue,
               float* out, ptrdiff_t out_stride) {
    I sums[R][P][VECTORS];
    integer_products<R, P>(a.values + row * a.stride, a.stride, a.sum + row,
                           b.panels + static_cast<ptrdiff_t>(panel) * b.k * PANEL, b.k, sums, ahead);
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
        for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
            for (int v = 0; v < VECTORS; ++v) column[p][v] = load(panels + p * panel_floats + i * PANEL + v * W);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
            for (int p = 0; p < P; ++p)
#pragma GCC unroll 4
                for (int v = 0; v < VECTORS; ++v)
                    sums[r][p][v] = fma(splat(a[r * a_stride + i]), column[p][v], sums[r][p][v]);
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

// Call tile(R, P, row, panel) so that T rows and the panels from first to last are covered, in tiles of about equal
// height.
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
    // The first tile of a group of panels would wait for the memory and the others not; so every tile asks for its
    // share of the next group.
    const int n_tiles = (t + ROWS - 1) / ROWS, group_lines = PREFETCH_ROWS * PANEL * PANELS / 64;
    const int lines = (group_lines + n_tiles - 1) / n_tiles;
    const ptrdiff_t panel_bytes = static_cast<ptrdiff_t>(b.k) * PANEL;
    const ptrdiff_t tile_bytes = static_cast<ptrdiff_t>(lines) * 64 * ((b.k + PREFETCH_ROWS - 1) / PREFETCH_ROWS);
    int tile = 0;
    cover(t, first, last, [&](auto r, auto p, int row, int panel) {
        tile = row == 0 ? 0 : tile + 1;
        Prefetch ahead;
        if (panel + 2 * PANELS <= b.n_panels)
            ahead = {b.panels + (panel + PANELS) * panel_bytes + tile * tile_bytes, lines};
        tile_int8<r(), p()>(a, row, b, panel, ahead, epilogue, out, out_stride);
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
        quantise(weights, BLOCK_TOKENS, BLOCK_TOKENS, integers, scores + 4, &sum);
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

// ---------------------------------------------------------------------------------------------------------------------
// Sampling

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

int32_t draw(float* logits, int n, const Sampling& sampling, float* scratch) {
    constexpr float LOWEST = std::numeric_limits<float>::lowest();
    const int padded = round_up(n, DRAW_PADDING), n_groups = padded / DRAW_PADDING;
    constexpr int SPAN = 1024;  // tokens whose weights are summed up: few sums, and few tokens to look at in the end
    const int n_spans = (padded + SPAN - 1) / SPAN;
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
    double total = 0;
    for (int span = 0; span < n_spans; ++span) {
        F mass = {};
        for (int first = span * SPAN; first < std::min((span + 1) * SPAN, padded); first += DRAW_PADDING) {
            if (group_tops[first / DRAW_PADDING] < lowest_logit) {
                std::fill_n(weights + first, DRAW_PADDING, 0.0f);
                continue;
            }
            for (int i = first; i < first + DRAW_PADDING; i += W) {
                const F x = load(logits + i);
                const F weight = x >= lowest_logit ? exp((x - top) * inverse) : F{};
                store(weights + i, weight);
                mass += weight;
            }
        }
        masses[span] = lane_sum(mass);
        total += masses[span];
    }

    float lowest_weight = 0;
    if (sampling.top_p > 0 && sampling.top_p < 1) {
        lowest_weight = nucleus(weights, others, padded, total, sampling.top_p * total);
        total = 0;
        for (int span = 0; span < n_spans; ++span) {
            F mass = {};
            for (int i = span * SPAN; i < std::min((span + 1) * SPAN, padded); i += W) {
                const F weight = load(weights + i);
                mass += weight >= lowest_weight ? weight : F{};
            }
            masses[span] = lane_sum(mass);
            total += masses[span];
        }
    }

    // Invert the cumulative distribution in the order of the token ids: first find the span, then the token in it.
    // Where rounding leaves a little behind the last one, it is the last one.
    double left = uniform(sampling.seed, sampling.position, sampling.sample) * total;
    int span = 0;
    for (int i = 0; i < n_spans; ++i) {
        if (masses[i] == 0) continue;
        span = i;
        if (left < masses[i]) break;
        left -= masses[i];
    }
    int32_t token = 0;
    for (int i = span * SPAN; i < std::min((span + 1) * SPAN, padded); ++i) {
        if (weights[i] == 0 || weights[i] < lowest_weight) continue;
        token = i;
        if (left < weights[i]) break;
        left -= weights[i];
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

extern const Kernels KERNELS;
const Kernels KERNELS = {norm,        quantise,       multiply_int8, multiply_float32, keep_int8, keep_float32,
                         attend_int8, attend_float32, draw,          multiply_adds,    read_bytes};

}  // namespace pokegen
