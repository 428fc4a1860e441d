// Products of rows with packed matrices.
#pragma once

#include <algorithm>
#include <utility>

#include "vectors.h"

namespace pokegen {
namespace {

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
            const F scale = load(b.scale + column), bias = load(b.bias + column),
                    column_sum = load(b.column_sum + column);
#pragma GCC unroll 8
            for (int r = 0; r < R; ++r)
                finish(epilogue,
                       fma(__builtin_convertvector(sums[r][p][v], F), scale * a.scale[row + r],
                           fma(column_sum, splat(a.offset[row + r]), bias)),
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

}  // namespace
}  // namespace pokegen
