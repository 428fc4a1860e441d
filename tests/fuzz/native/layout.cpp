// A model of any sizes: one that has a place for everything, or a refusal; never one whose bytes were counted wrong.
#include "layout.h"

#include <new>
#include <stdexcept>

#include "../../native/check.h"
#include "input.h"
#include "model.h"

using namespace pokegen;

namespace {

using Exact = unsigned __int128;

Exact aligned(Exact bytes) { return (bytes + 63) / 64 * 64; }

Exact matrix_bytes(Exact k, Exact n, Precision precision) {
    const bool int8 = precision == Precision::int8;
    const Exact columns = (n + 15) / 16 * 16, rows = int8 ? (k + 3) / 4 * 4 : k;
    return aligned(columns * rows * (int8 ? 1 : 4)) + (int8 ? 3 : 1) * aligned(columns * 4);
}

int size_of_a_model(Input& input) {
    switch (input.between(0, 4)) {
        case 0:
            return input.between(1, 64);
        case 1:
            return 1 << input.between(0, 30);
        case 2:
            return (1 << input.between(1, 25)) - input.between(-1, 1);
        case 3:
            return input.of({0, -1, std::numeric_limits<int>::min(), std::numeric_limits<int>::max()});
        default:
            return input.raw<int>();
    }
}

// The places of a matrix's parts, none of which is in another's.
void place(const MatrixPlace& at, int k, int n, const Layout& layout) {
    const size_t columns = static_cast<size_t>(round_up(n, PANEL));
    const bool int8 = layout.precision() == Precision::int8;
    const size_t rows = static_cast<size_t>(int8 ? round_up(k, DEPTH) : k);
    CHECK(at.k == k && at.n == n);
    CHECK(at.panels + columns * rows * (int8 ? 1 : 4) <= (int8 ? at.scale : at.bias));
    if (int8) CHECK(at.scale + columns * 4 <= at.column_sum && at.column_sum + columns * 4 <= at.bias);
    CHECK(at.bias + columns * 4 <= layout.size());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input(data, size);
    const HParams hparams{size_of_a_model(input), size_of_a_model(input), size_of_a_model(input),
                          size_of_a_model(input), size_of_a_model(input)};
    const Precision precision = input.of({Precision::int8, Precision::float32});
    const int n_blocks = size_of_a_model(input);
    try {
        const Layout layout(hparams, precision);
        const Exact c = static_cast<Exact>(hparams.n_embd), row = (c + 15) / 16 * 64;
        const Exact layer = matrix_bytes(c, 3 * c, precision) + matrix_bytes(c, c, precision) +
                            matrix_bytes(c, 4 * c, precision) + matrix_bytes(4 * c, c, precision);
        CHECK(layout.size() == matrix_bytes(c, static_cast<Exact>(hparams.n_vocab), precision) +
                                   aligned(row * static_cast<Exact>(hparams.n_ctx)) + aligned(2 * row) +
                                   layer * static_cast<Exact>(hparams.n_layer));
        const int e = hparams.n_embd;
        place(layout.head(), e, hparams.n_vocab, layout);
        for (const int number : {0, hparams.n_layer / 2, hparams.n_layer - 1}) {
            place(layout.matrix(number, ATTN_QKV), e, 3 * e, layout);
            place(layout.matrix(number, ATTN_PROJ), e, e, layout);
            place(layout.matrix(number, MLP_FC), e, 4 * e, layout);
            place(layout.matrix(number, MLP_PROJ), 4 * e, e, layout);
        }
        const Exact d = static_cast<Exact>(hparams.head_dim()), padded = (d + 15) / 16 * 16;
        const Exact head = precision == Precision::int8 ? ((d + 3) / 4 * 4 + padded + 8) * 16 : (d + padded) * 64;
        const Exact block = head * static_cast<Exact>(hparams.n_head) * static_cast<Exact>(hparams.n_layer);
        CHECK(Model::block_bytes(hparams, precision) == block);
        if (n_blocks < 1 || hparams.n_vocab > 1 << 12 || hparams.n_ctx > 1 << 14) return 0;  // only slow
        // No step is made, so that no weight is looked at.
        const Model model(layout, nullptr, n_blocks, 1, Isa::portable);
        CHECK(block * static_cast<Exact>(n_blocks) < Exact{1} << 47);  // more than a process can have
    } catch (const std::invalid_argument&) {
    } catch (const std::bad_alloc&) {
    }
    return 0;
}
