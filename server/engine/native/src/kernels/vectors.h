// Vectors of W floats: what the kernels are written in. Only `fma`, `dot` and `append_where` are written anew for every
// instruction set; the compiler does the rest. Each instruction set has its own, in a namespace without a name.
#pragma once

#include <cstdint>
#include <cstring>

#include "../kernels.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace pokegen {
namespace {

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
inline float lane_min(F x) { return reduce(x, min); }

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

}  // namespace
}  // namespace pokegen
