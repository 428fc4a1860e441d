// A model whose arena is any bytes, and steps with any arguments that are let through: every token that is drawn is one
// of the vocabulary, or none because the logits are no numbers.
#include "model.h"

#include <cmath>
#include <stdexcept>

#include "../../native/check.h"
#include "../../native/random.h"
#include "batch.h"
#include "input.h"

using namespace pokegen;

namespace {

Bytes hostile_arena(const Layout& layout, Input& input) {
    Bytes arena = zeros(layout.size());
    std::mt19937 random(input.raw<uint8_t>());
    switch (input.between(0, 2)) {
        case 0:  // small floats, which as integers, and as scales, are any
            for (size_t i = 0; i + 4 <= layout.size(); i += 4) {
                const float value = std::normal_distribution<float>(0, 0.3f)(random);
                std::memcpy(arena.get() + i, &value, sizeof value);
            }
            break;
        case 1:
            for (size_t i = 0; i < layout.size(); ++i) arena.get()[i] = static_cast<std::byte>(random());
            break;
        default:
            break;
    }
    for (int i = input.between(0, 8); i > 0; --i) {
        const float value = input.number();
        const size_t begin = input.raw<uint32_t>() % (layout.size() / 4);
        const size_t count = input.yes() ? 1 : input.raw<uint16_t>();
        for (size_t at = begin; at < std::min(begin + count, layout.size() / 4); ++at)
            std::memcpy(arena.get() + 4 * at, &value, sizeof value);
    }
    return arena;
}

// The arrays of a batch, to be spoiled.
struct Arrays {
    std::vector<int32_t> tokens, lengths, positions, blocks, n_blocks, top_k, n_logits;
    std::vector<uint8_t> draws;
    std::vector<double> temperature, top_p;
    std::vector<uint64_t> seeds, samples;

    void add(const HParams& hparams, int all_blocks, Input& input) {
        const int position = input.between(0, hparams.n_ctx - 1);
        const int length = input.between(1, hparams.n_ctx - position);
        for (int i = 0; i < length; ++i) tokens.push_back(input.between(0, hparams.n_vocab - 1));
        const int needed = round_up(position + length, BLOCK_TOKENS) / BLOCK_TOKENS;
        for (int i = 0; i < needed; ++i) blocks.push_back(input.between(0, all_blocks - 1));
        lengths.push_back(length);
        positions.push_back(position);
        n_blocks.push_back(needed);
        draws.push_back(input.raw<uint8_t>());
        temperature.push_back(input.of({0.0, 0.7, 10.0}));
        top_k.push_back(input.between(0, 60));
        top_p.push_back(input.of({0.0, 0.9, 1.0}));
        seeds.push_back(input.raw<uint16_t>());
        samples.push_back(input.raw<uint8_t>());
        n_logits.push_back(input.between(0, length));
    }

    void spoil(Input& input) {
        using Limits = std::numeric_limits<int32_t>;
        std::vector<int32_t>& array = *input.of({&tokens, &lengths, &positions, &blocks, &n_blocks, &top_k, &n_logits});
        const int32_t value = input.of({0, 1, -1, Limits::max(), Limits::min(), input.raw<int32_t>()});
        switch (input.between(0, 4)) {
            case 0:
                array.push_back(value);
                break;
            case 1:
                if (!array.empty()) array.pop_back();
                break;
            case 2:
                if (!temperature.empty()) (input.yes() ? temperature : top_p).back() = input.raw<double>();
                break;
            default:
                if (!array.empty()) array[input.raw<uint8_t>() % array.size()] = value;
        }
    }

    Batch batch() const {
        return {view(tokens),      view(lengths), view(positions), view(blocks), view(n_blocks), view(draws),
                view(temperature), view(top_k),   view(top_p),     view(seeds),  view(samples),  view(n_logits)};
    }

private:
    template <class T>
    static View<T> view(const std::vector<T>& array) {
        return {array.data(), array.size()};
    }
};

void step(Model& model, Input& input) {
    const HParams& hparams = model.layout().hparams();
    Arrays arrays;
    for (int i = input.between(0, 3); i > 0; --i) arrays.add(hparams, model.n_blocks(), input);
    for (int i = input.between(0, 2); i > 0; --i) arrays.spoil(input);
    std::vector<Slice> slices;
    try {
        slices = slices_of(arrays.batch(), hparams, model.n_blocks());
    } catch (const std::invalid_argument&) {
        return;
    }
    const auto n_vocab = static_cast<size_t>(hparams.n_vocab);
    std::vector<std::vector<float>> logits;
    for (Slice& slice : slices) {
        logits.emplace_back(static_cast<size_t>(slice.n_logits) * n_vocab);
        slice.logits = logits.back().data();
    }
    std::vector<int32_t> drawn(slices.size(), 12345678);
    model.step(slices, drawn.data());
    for (size_t i = 0; i < slices.size(); ++i) {
        if (!slices[i].draws) {
            CHECK(drawn[i] == -1);
            continue;
        }
        CHECK(drawn[i] == NOT_FINITE || (0 <= drawn[i] && drawn[i] < hparams.n_vocab));
        if (logits[i].empty()) continue;
        const auto last = logits[i].end() - static_cast<ptrdiff_t>(n_vocab);
        const bool finite = std::all_of(last, logits[i].end(), [](float x) { return std::isfinite(x); });
        CHECK((drawn[i] == NOT_FINITE) == !finite);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    Input input(data, size);
    const Isa isa = input.of({Isa::portable, Isa::avx2, Isa::avx512_vnni});
    if (!is_supported(isa)) return 0;
    const int n_head = input.between(1, 3);
    const HParams hparams{input.between(1, 90), input.between(1, 40), n_head * input.between(1, 12), n_head,
                          input.between(1, 2)};
    const Layout layout(hparams, input.of({Precision::int8, Precision::float32}));
    const int n_blocks = input.between(1, 5), n_threads = input.between(0, 15) ? 1 : 2;
    const Bytes arena = hostile_arena(layout, input);
    Model model(layout, arena.get(), n_blocks, n_threads, isa);
    for (int i = 0; i < 4 && !input.empty(); ++i) step(model, input);
    return 0;
}
