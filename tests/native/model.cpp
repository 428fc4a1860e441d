// Thousands of steps over models of random shapes: whoever shares a step with a sequence, however its prompt is cut and
// however many threads compute, its tokens are those that it has alone, with one thread.
#include "model.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <numeric>

#include "check.h"
#include "random.h"

using namespace pokegen;

namespace {

Bytes random_weights(const Layout& layout) {
    const HParams& hparams = layout.hparams();
    Bytes arena = zeros(layout.size());
    for (int layer = 0; layer < hparams.n_layer; ++layer)
        for (int which = 0; which < 4; ++which) {
            const MatrixPlace& place = layout.matrix(layer, which);
            pack(layout, place, normal(static_cast<size_t>(place.k * place.n), 0.2f).data(),
                 normal(static_cast<size_t>(place.n), 0.2f).data(), arena.get());
        }
    pack_embeddings(layout, normal(static_cast<size_t>(hparams.n_vocab * hparams.n_embd)).data(), 0, hparams.n_vocab,
                    arena.get());
    const auto fill = [&](size_t offset, int rows) {
        for (int row = 0; row < rows; ++row) {
            const auto values = normal(static_cast<size_t>(hparams.n_embd));
            std::memcpy(arena.get() + offset + static_cast<size_t>(row * layout.channels()) * sizeof(float),
                        values.data(), values.size() * sizeof(float));
        }
    };
    fill(layout.position_embeddings(), hparams.n_ctx);
    fill(layout.final_norm(), 2);
    return arena;
}

struct Sequence {
    std::vector<int32_t> tokens, blocks;
    int prompt, computed = 0;
    Sampling sampling;
    std::vector<int32_t> drawn;

    // n tokens from the first that was not computed; what is drawn behind the last stands at the next position.
    Slice slice(int n) {
        sampling.position = static_cast<uint64_t>(computed + n);
        return {tokens.data() + computed,
                n,
                computed,
                blocks.data(),
                computed + n == static_cast<int>(tokens.size()),
                sampling};
    }

    void advance(int n, int32_t token, int n_vocab) {
        const bool draws = computed + n == static_cast<int>(tokens.size());
        CHECK(draws ? 0 <= token && token < n_vocab : token == -1);
        computed += n;
        if (!draws) return;
        tokens.push_back(token);
        drawn.push_back(token);
    }

    bool full(int n_ctx) const { return static_cast<int>(tokens.size()) > n_ctx; }
};

Sequence random_sequence(const HParams& hparams) {
    Sequence sequence;
    sequence.prompt = between(1, hparams.n_ctx);
    for (int i = 0; i < sequence.prompt; ++i) sequence.tokens.push_back(between(0, hparams.n_vocab - 1));
    const double temperatures[] = {0, 0.7, 1, 3};
    sequence.sampling = {temperatures[between(0, 3)],
                         between(0, 1) ? 0.9 : 0,
                         between(0, 20),
                         static_cast<uint64_t>(between(0, 1 << 30)),
                         0,
                         0};
    return sequence;
}

// Alone, its whole prompt at once.
std::vector<int32_t> alone(Model& model, Sequence sequence) {
    const HParams& hparams = model.layout().hparams();
    sequence.blocks.resize(static_cast<size_t>(round_up(hparams.n_ctx, BLOCK_TOKENS) / BLOCK_TOKENS));
    std::iota(sequence.blocks.begin(), sequence.blocks.end(), 0);
    for (int n = sequence.prompt; !sequence.full(hparams.n_ctx); n = 1) {
        int32_t token;
        model.step({sequence.slice(n)}, &token);
        sequence.advance(n, token, hparams.n_vocab);
    }
    return sequence.drawn;
}

// All that `waiting` has arrive at random steps, get any blocks that are free, and some leave half-way.
std::vector<std::vector<int32_t>> together(Model& model, std::vector<Sequence> sequences,
                                           const std::vector<bool>& leaves) {
    const HParams& hparams = model.layout().hparams();
    const auto needed = static_cast<size_t>(round_up(hparams.n_ctx, BLOCK_TOKENS) / BLOCK_TOKENS);
    std::vector<int32_t> free(static_cast<size_t>(model.n_blocks()));
    std::iota(free.begin(), free.end(), 0);
    std::vector<size_t> running;
    for (size_t next = 0; next < sequences.size() || !running.empty();) {
        while (next < sequences.size() && free.size() >= needed && between(0, 1)) {
            std::shuffle(free.begin(), free.end(), generator());
            sequences[next].blocks.assign(free.end() - static_cast<ptrdiff_t>(needed), free.end());
            free.resize(free.size() - needed);
            running.push_back(next++);
        }
        if (running.empty()) continue;
        std::vector<Slice> slices;
        for (const size_t i : running)
            slices.push_back(
                sequences[i].slice(between(1, static_cast<int>(sequences[i].tokens.size()) - sequences[i].computed)));
        std::vector<int32_t> drawn(slices.size());
        model.step(slices, drawn.data());
        std::vector<size_t> left;
        for (size_t i = 0; i < running.size(); ++i) {
            Sequence& sequence = sequences[running[i]];
            sequence.advance(slices[i].n, drawn[i], hparams.n_vocab);
            const bool ends = sequence.full(hparams.n_ctx) || (leaves[running[i]] && between(0, 4) == 0);
            if (ends)
                free.insert(free.end(), sequence.blocks.begin(), sequence.blocks.end());
            else
                left.push_back(running[i]);
        }
        running = left;
    }
    std::vector<std::vector<int32_t>> texts;
    for (const Sequence& sequence : sequences) texts.push_back(sequence.drawn);
    return texts;
}

void a_text_depends_on_its_own_sequence_alone(Precision precision, Isa isa) {
    const HParams hparams = random_shape();
    const Layout layout(hparams, precision);
    const Bytes arena = random_weights(layout);
    const int blocks_of_one = round_up(hparams.n_ctx, BLOCK_TOKENS) / BLOCK_TOKENS;
    std::vector<Sequence> sequences;
    std::vector<bool> leaves;
    std::vector<std::vector<int32_t>> expected;
    Model reference(layout, arena.get(), blocks_of_one, 1, isa);
    for (int i = between(1, 12); i > 0; --i) {
        sequences.push_back(random_sequence(hparams));
        leaves.push_back(between(0, 3) == 0);
        expected.push_back(alone(reference, sequences.back()));
    }
    for (int n_threads = 1; n_threads <= 3; ++n_threads) {
        Model model(layout, arena.get(), blocks_of_one * between(1, 8), n_threads, isa);
        const auto texts = together(model, sequences, leaves);
        for (size_t i = 0; i < texts.size(); ++i) {
            CHECK(leaves[i] ? texts[i].size() <= expected[i].size() : texts[i].size() == expected[i].size());
            CHECK(std::equal(texts[i].begin(), texts[i].end(), expected[i].begin()));
        }
    }
}

// Of each slice of a step the logits of as many of its last tokens as it asks for, whether it draws or not: those that
// every token has alone, the last of which is the one that is drawn at temperature 0.
void logits_of_the_last_tokens(Precision precision, Isa isa) {
    const HParams hparams = random_shape();
    const Layout layout(hparams, precision);
    const Bytes arena = random_weights(layout);
    const int blocks_of_one = round_up(hparams.n_ctx, BLOCK_TOKENS) / BLOCK_TOKENS, n_vocab = hparams.n_vocab;
    std::vector<Sequence> sequences(static_cast<size_t>(between(1, 5)));
    Model model(layout, arena.get(), blocks_of_one * static_cast<int>(sequences.size()), between(1, 3), isa);
    std::vector<Slice> slices;
    std::vector<std::vector<float>> expected, found;
    for (size_t i = 0; i < sequences.size(); ++i) {
        Sequence& sequence = sequences[i] = random_sequence(hparams);
        sequence.sampling.temperature = 0;
        sequence.blocks.resize(static_cast<size_t>(blocks_of_one));
        std::iota(sequence.blocks.begin(), sequence.blocks.end(), static_cast<int>(i) * blocks_of_one);
        expected.emplace_back();
        for (int n = 0; n < sequence.prompt; ++n) {
            std::vector<float> logits(static_cast<size_t>(n_vocab));
            Slice token = sequence.slice(1);
            token.draws = false;
            token.n_logits = 1;
            token.logits = logits.data();
            int32_t none;
            model.step({token}, &none);
            expected[i].insert(expected[i].end(), logits.begin(), logits.end());
            ++sequence.computed;
        }
        sequence.computed = 0;
        Slice slice = sequence.slice(sequence.prompt);
        slice.draws = between(0, 1);
        slice.n_logits = between(0, sequence.prompt);
        found.emplace_back(static_cast<size_t>(slice.n_logits * n_vocab));
        slices.push_back(slice);
    }
    for (size_t i = 0; i < slices.size(); ++i) slices[i].logits = found[i].data();
    std::vector<int32_t> drawn(slices.size());
    model.step(slices, drawn.data());
    for (size_t i = 0; i < slices.size(); ++i) {
        CHECK(std::equal(found[i].rbegin(), found[i].rend(), expected[i].rbegin()));
        const auto last = expected[i].end() - n_vocab;
        CHECK(drawn[i] == (slices[i].draws ? std::max_element(last, expected[i].end()) - last : -1));
    }
}

}  // namespace

int main() {
    for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512_vnni}) {
        if (!is_supported(isa)) continue;
        for (int round = 0; round < 4; ++round)
            for (const Precision precision : {Precision::int8, Precision::float32}) {
                a_text_depends_on_its_own_sequence_alone(precision, isa);
                logits_of_the_last_tokens(precision, isa);
            }
    }
}
