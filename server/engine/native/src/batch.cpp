#include "batch.h"

#include <stdexcept>

namespace pokegen {
namespace {

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

// Where a sequence ends that stands at `position` with n tokens more.
int end_of(const HParams& hparams, int64_t position, int64_t n) {
    require(n > 0 && position >= 0 && position + n <= hparams.n_ctx,
            "the tokens must be one or more, and lie within n_ctx");
    return static_cast<int>(position + n);
}

}  // namespace

Sampling checked(const Sampling& sampling) {
    require(0 <= sampling.temperature && sampling.temperature <= MAX_TEMPERATURE, "temperature must be from 0 to 10");
    require(sampling.top_k >= 0, "top_k must be 0 or more");
    require(0 <= sampling.top_p && sampling.top_p <= 1, "top_p must be from 0 to 1");
    return sampling;
}

std::vector<Slice> slices_of(const Batch& batch, const HParams& hparams, int n_blocks) {
    const size_t n = batch.lengths.size;
    for (size_t size : {batch.positions.size, batch.n_blocks.size, batch.draws.size, batch.temperature.size,
                        batch.top_k.size, batch.top_p.size, batch.seeds.size, batch.samples.size, batch.n_logits.size})
        require(size == n, "there must be one of each for every slice");
    for (size_t i = 0; i < batch.tokens.size; ++i)
        require(0 <= batch.tokens[i] && batch.tokens[i] < hparams.n_vocab, "a token is not in the vocabulary");
    for (size_t i = 0; i < batch.blocks.size; ++i)
        require(0 <= batch.blocks[i] && batch.blocks[i] < n_blocks, "there is no such block");
    std::vector<Slice> slices;
    slices.reserve(n);
    size_t token = 0, block = 0;
    for (size_t i = 0; i < n; ++i) {
        const int length = batch.lengths[i], position = batch.positions[i], n_logits = batch.n_logits[i];
        const int end = end_of(hparams, position, length);
        require(batch.n_blocks[i] >= 0 && static_cast<int64_t>(batch.n_blocks[i]) * BLOCK_TOKENS >= end,
                "a slice has too few blocks");
        const Sampling sampling = checked({batch.temperature[i], batch.top_p[i], batch.top_k[i], batch.seeds[i],
                                           batch.samples[i], static_cast<uint64_t>(end)});
        require(0 <= n_logits && n_logits <= length, "n_logits must be from 0 to a slice's length");
        slices.push_back({batch.tokens.data + token, length, position, batch.blocks.data + block, batch.draws[i] != 0,
                          sampling, n_logits});
        token += static_cast<size_t>(length);
        block += static_cast<size_t>(batch.n_blocks[i]);
        require(token <= batch.tokens.size && block <= batch.blocks.size,
                "there are fewer tokens or blocks than the slices have");
    }
    require(token == batch.tokens.size && block == batch.blocks.size,
            "there are more tokens or blocks than the slices have");
    return slices;
}

}  // namespace pokegen
