// Every weight has a place of its own in the arena, and none is beside it: the address sanitizer watches its end.
#include "layout.h"

#include <algorithm>
#include <cmath>

#include "check.h"
#include "random.h"

using namespace pokegen;

namespace {

// The bytes that a tensor without zeros takes.
class Taken {
public:
    explicit Taken(const Layout& layout) : layout_(layout), taken_(layout.size()) {}

    template <class Pack>
    void by(Pack pack) {
        const Bytes arena = zeros(layout_.size());
        pack(arena.get());
        for (size_t i = 0; i < taken_.size(); ++i) {
            const bool written = arena.get()[i] != std::byte{0};
            CHECK(!(written && taken_[i]));
            taken_[i] = taken_[i] || written;
        }
    }

private:
    const Layout& layout_;
    std::vector<bool> taken_;
};

std::vector<MatrixPlace> matrices(const Layout& layout) {
    std::vector<MatrixPlace> places;
    for (int layer = 0; layer < layout.hparams().n_layer; ++layer)
        for (int which = 0; which < 4; ++which) places.push_back(layout.matrix(layer, which));
    return places;
}

void no_two_tensors_share_a_byte(const Layout& layout) {
    const HParams& hparams = layout.hparams();
    Taken taken(layout);
    for (const MatrixPlace& place : matrices(layout)) {
        const auto weights = normal(static_cast<size_t>(place.k * place.n)),
                   bias = normal(static_cast<size_t>(place.n));
        taken.by([&](std::byte* arena) { pack(layout, place, weights.data(), bias.data(), arena); });
    }
    const auto embeddings = normal(static_cast<size_t>(hparams.n_vocab * hparams.n_embd));
    taken.by([&](std::byte* arena) { pack_embeddings(layout, embeddings.data(), 0, hparams.n_vocab, arena); });
    const auto fill = [&](size_t offset, int rows) {
        taken.by([&](std::byte* arena) {
            std::fill_n(reinterpret_cast<float*>(arena + offset), rows * layout.channels(), 1.1f);
        });
    };
    fill(layout.position_embeddings(), hparams.n_ctx);
    fill(layout.final_norm(), 2);
}

void embeddings_are_read_back(const Layout& layout) {
    const HParams& hparams = layout.hparams();
    const auto c = static_cast<size_t>(hparams.n_embd);
    const auto embeddings = normal(static_cast<size_t>(hparams.n_vocab) * c);
    const Bytes arena = zeros(layout.size());
    for (int first = 0; first < hparams.n_vocab;) {  // slice by slice, as a checkpoint's are
        const int n = between(1, hparams.n_vocab - first);
        pack_embeddings(layout, embeddings.data() + static_cast<size_t>(first) * c, first, n, arena.get());
        first += n;
    }
    for (int token = 0; token < hparams.n_vocab; ++token) {
        std::vector<float> read(static_cast<size_t>(layout.channels()), -1.0f);
        read_embedding(layout, arena.get(), token, read.data());
        const float* written = embeddings.data() + static_cast<size_t>(token) * c;
        const float largest = std::fabs(
            *std::max_element(written, written + c, [](float a, float b) { return std::fabs(a) < std::fabs(b); }));
        const float tolerance = layout.precision() == Precision::int8 ? 0.501f * largest / 127 : 0;
        for (size_t i = 0; i < c; ++i) CHECK(std::fabs(read[i] - written[i]) <= tolerance);
        for (size_t i = c; i < read.size(); ++i) CHECK(read[i] == 0);
    }
}

}  // namespace

int main() {
    for (int round = 0; round < 8; ++round) {
        const HParams shape = random_shape();
        for (const Precision precision : {Precision::int8, Precision::float32}) {
            const Layout layout(shape, precision);
            no_two_tensors_share_a_byte(layout);
            embeddings_are_read_back(layout);
        }
    }
}
