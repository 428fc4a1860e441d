#include "layout.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <stdexcept>

namespace pokegen {
namespace {

constexpr size_t ALIGNMENT = 64;  // a cache line

// The products of a column of 4C, each 127 * 128 at most (see `dot`), add up in 32 bits.
constexpr int MAX_CHANNELS = 1 << 15;

int padded_k(Precision precision, int k) { return precision == Precision::int8 ? round_up(k, DEPTH) : k; }

template <class T>
T* at(std::byte* arena, size_t offset) {
    return reinterpret_cast<T*>(arena + offset);
}
template <class T>
const T* at(const std::byte* arena, size_t offset) {
    return reinterpret_cast<const T*>(arena + offset);
}

// One column, whose K weights lie `stride` apart, into column n of a packed matrix.
void pack_column(Precision precision, const MatrixPlace& place, const float* weights, ptrdiff_t stride, int n,
                 std::byte* arena) {
    const int k_padded = padded_k(precision, place.k);
    const size_t panel = static_cast<size_t>(n / PANEL) * PANEL * static_cast<size_t>(k_padded);
    if (precision == Precision::float32) {
        float* column = at<float>(arena, place.panels) + panel + n % PANEL;
        for (int i = 0; i < place.k; ++i) column[static_cast<ptrdiff_t>(i) * PANEL] = weights[i * stride];
        return;
    }
    float bound = 0, strangeness = 0;
    for (int i = 0; i < place.k; ++i) {
        const float weight = weights[i * stride];
        bound = std::max(bound, std::fabs(weight));
        strangeness += weight - weight;  // not 0 where a weight is infinite or no number
    }
    at<float>(arena, place.scale)[n] = bound / 127.0f + strangeness;  // so that integers do not hide it
    const bool zero = !(strangeness == 0 && bound >= SMALLEST_BOUND);
    const float inverse = 127.0f / bound;
    int8_t* column = at<int8_t>(arena, place.panels) + panel + n % PANEL * DEPTH;
    int32_t sum = 0;
    for (int i = 0; i < place.k; ++i) {
        const auto integer = zero ? int8_t{0} : static_cast<int8_t>(std::nearbyint(weights[i * stride] * inverse));
        column[i / DEPTH * DEPTH * PANEL + i % DEPTH] = integer;
        sum += integer;
    }
    at<float>(arena, place.column_sum)[n] = at<float>(arena, place.scale)[n] * static_cast<float>(sum);
}

}  // namespace

Layout::Layout(const HParams& hparams, Precision precision) : hparams_(hparams), precision_(precision) {
    for (int value : {hparams.n_vocab, hparams.n_ctx, hparams.n_embd, hparams.n_head, hparams.n_layer})
        if (value < 1 || value > 1 << 24)
            throw std::invalid_argument("each of the model's sizes must be from 1 to 2**24");
    if (hparams.n_embd > MAX_CHANNELS) throw std::invalid_argument("n_embd may be 32768 at most");
    if (hparams.n_embd % hparams.n_head != 0) throw std::invalid_argument("n_embd must be a multiple of n_head");
    if (hparams.head_dim() > 1024) throw std::invalid_argument("n_embd / n_head may be 1024 at most");
    const int c = hparams.n_embd;
    const size_t row = static_cast<size_t>(channels()) * sizeof(float);
    head_ = reserve_matrix(c, hparams.n_vocab);
    position_embeddings_ = reserve(row * static_cast<size_t>(hparams.n_ctx));
    final_norm_ = reserve(2 * row);
    const size_t first_layer = size_;
    matrices_ = {reserve_matrix(c, 3 * c), reserve_matrix(c, c), reserve_matrix(c, 4 * c), reserve_matrix(4 * c, c)};
    layer_size_ = size_ - first_layer;
    size_ += layer_size_ * static_cast<size_t>(hparams.n_layer - 1);
}

MatrixPlace Layout::matrix(int layer, int which) const {
    MatrixPlace place = matrices_.at(static_cast<size_t>(which));
    const size_t offset = layer_size_ * static_cast<size_t>(layer);
    place.panels += offset;
    if (precision_ == Precision::int8) {
        place.scale += offset;
        place.column_sum += offset;
    }
    place.bias += offset;
    return place;
}

size_t Layout::reserve(size_t bytes) {
    const size_t offset = size_;
    size_ += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return offset;
}

MatrixPlace Layout::reserve_matrix(int k, int n) {
    const auto columns = static_cast<size_t>(round_up(n, PANEL));
    const size_t item = precision_ == Precision::int8 ? sizeof(int8_t) : sizeof(float);
    MatrixPlace place{k, n, 0, 0, 0, 0};
    place.panels = reserve(columns * static_cast<size_t>(padded_k(precision_, k)) * item);
    if (precision_ == Precision::int8) {
        place.scale = reserve(columns * sizeof(float));
        place.column_sum = reserve(columns * sizeof(float));
    }
    place.bias = reserve(columns * sizeof(float));
    return place;
}

Int8Matrix int8_matrix(const MatrixPlace& place, const std::byte* arena) {
    return {at<int8_t>(arena, place.panels), at<float>(arena, place.scale),      at<float>(arena, place.column_sum),
            at<float>(arena, place.bias),    padded_k(Precision::int8, place.k), round_up(place.n, PANEL) / PANEL};
}

Float32Matrix float32_matrix(const MatrixPlace& place, const std::byte* arena) {
    return {at<float>(arena, place.panels), at<float>(arena, place.bias), place.k, round_up(place.n, PANEL) / PANEL};
}

void pack(const Layout& layout, const MatrixPlace& place, const float* weights, const float* bias, std::byte* arena) {
    for (int n = 0; n < place.n; ++n) pack_column(layout.precision(), place, weights + n, place.n, n, arena);
    std::copy(bias, bias + place.n, at<float>(arena, place.bias));
}

void pack_embeddings(const Layout& layout, const float* rows, int first, int n, std::byte* arena) {
    const MatrixPlace& place = layout.head();
    for (int i = 0; i < n; ++i)
        pack_column(layout.precision(), place, rows + static_cast<ptrdiff_t>(i) * place.k, 1, first + i, arena);
}

void read_embedding(const Layout& layout, const std::byte* arena, int token, float* out) {
    const MatrixPlace& place = layout.head();
    const int k_padded = padded_k(layout.precision(), place.k), column = token % PANEL;
    const size_t panel = static_cast<size_t>(token / PANEL) * PANEL * static_cast<size_t>(k_padded);
    if (layout.precision() == Precision::float32) {
        const float* from = at<float>(arena, place.panels) + panel + column;
        for (int i = 0; i < place.k; ++i) out[i] = from[static_cast<ptrdiff_t>(i) * PANEL];
    } else {
        const int8_t* from = at<int8_t>(arena, place.panels) + panel + column * DEPTH;
        const float scale = at<float>(arena, place.scale)[token];
        for (int i = 0; i < place.k; ++i) out[i] = scale * from[i / DEPTH * DEPTH * PANEL + i % DEPTH];
    }
    std::fill(out + place.k, out + layout.channels(), 0.0f);
}

}  // namespace pokegen
