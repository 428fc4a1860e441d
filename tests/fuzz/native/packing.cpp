// Weights and activations that are any numbers: what is finite is packed as near as int8 can be, and what is not can be
// seen in its scale.
#include <cmath>

#include "../../native/check.h"
#include "../../native/random.h"
#include "input.h"
#include "layout.h"

using namespace pokegen;

namespace {

bool all_finite(const float* from, size_t n, size_t stride = 1) {
    for (size_t i = 0; i < n; ++i)
        if (!std::isfinite(from[i * stride])) return false;
    return true;
}

// Whether `offset` plus `integer` times `scale` is `x`, up to rounding.
bool is_near(double scale, int integer, float x, double offset = 0) {
    return std::fabs(offset + scale * integer - x) <= 0.51 * scale + 1e-36;
}

void embeddings(const Layout& layout, Input& input) {
    const HParams& hparams = layout.hparams();
    const auto c = static_cast<size_t>(hparams.n_embd);
    const Bytes arena = zeros(layout.size());
    const int first = input.between(0, hparams.n_vocab - 1), n = input.between(1, hparams.n_vocab - first);
    const std::vector<float> rows = input.numbers(static_cast<size_t>(n) * c);
    pack_embeddings(layout, rows.data(), first, n, arena.get());
    for (int i = 0; i < n; ++i) {
        std::vector<float> read(static_cast<size_t>(layout.channels()));
        read_embedding(layout, arena.get(), first + i, read.data());
        const float* row = rows.data() + static_cast<size_t>(i) * c;
        const bool moderate = std::all_of(row, row + c, [](float x) { return std::fabs(x) < 1e38f; });
        CHECK(all_finite(read.data(), c) ? all_finite(row, c) : !moderate);  // 127 times the scale of the largest float
    }
}

void matrix(const Layout& layout, Input& input) {
    const MatrixPlace place = layout.matrix(layout.hparams().n_layer - 1, input.between(0, 3));
    const auto k = static_cast<size_t>(place.k), n = static_cast<size_t>(place.n);
    const Bytes arena = zeros(layout.size());
    const std::vector<float> weights = input.numbers(k * n), bias = input.numbers(n);
    pack(layout, place, weights.data(), bias.data(), arena.get());
    if (layout.precision() == Precision::float32) return;
    const Int8Matrix packed = int8_matrix(place, arena.get());
    for (size_t column = 0; column < n; ++column) {
        const float scale = packed.scale[column];
        CHECK(std::isfinite(scale) == all_finite(weights.data() + column, k, n));
        if (!std::isfinite(scale)) {
            CHECK(!std::isfinite(packed.column_sum[column]));
            continue;
        }
        double sum = 0;
        const int8_t* panel = packed.panels + column / PANEL * PANEL * static_cast<size_t>(packed.k);
        for (size_t i = 0; i < k; ++i) {
            const int integer = panel[i / DEPTH * DEPTH * PANEL + column % PANEL * DEPTH + i % DEPTH];
            CHECK(integer >= -127 && is_near(scale, integer, weights[i * n + column]));
            sum += integer;
        }
        CHECK(packed.column_sum[column] == scale * static_cast<float>(sum));
    }
}

void activations(const Kernels& kernels, Input& input) {
    const auto n = static_cast<size_t>(input.between(1, 80));
    const auto padded = static_cast<size_t>(round_up(static_cast<int>(n), DEPTH));
    const std::vector<float> row = input.numbers(n);
    std::vector<int8_t> integers(padded, 99);
    float scale, offset;
    int32_t sum, expected = 0;
    kernels.quantise(row.data(), static_cast<int>(n), static_cast<int>(padded), integers.data(), &scale, &offset, &sum);
    CHECK(std::isfinite(scale) == all_finite(row.data(), n));
    for (size_t i = 0; i < padded; ++i) {
        if (i >= n)
            CHECK(integers[i] == 0);
        else if (std::isfinite(scale))
            CHECK(integers[i] >= -127 && is_near(scale, integers[i], row[i], offset));
        expected += integers[i];
    }
    CHECK(sum == expected);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input(data, size);
    const int n_head = input.between(1, 3);
    const HParams hparams{input.between(1, 40), input.between(1, 20), n_head * input.between(1, 8), n_head,
                          input.between(1, 2)};
    const Layout layout(hparams, input.of({Precision::int8, Precision::float32}));
    const Isa isa = input.of({Isa::portable, Isa::avx2, Isa::avx512_vnni});
    switch (input.between(0, 2)) {
        case 0:
            embeddings(layout, input);
            break;
        case 1:
            matrix(layout, input);
            break;
        default:
            if (is_supported(isa)) activations(kernels_for(isa), input);
    }
    return 0;
}
