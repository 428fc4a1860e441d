#include "model.h"

#include <algorithm>
#include <new>

namespace pokegen {
namespace {

template <class T>
void at_least(std::vector<T>& array, size_t n) {
    if (array.size() < n) array.resize(n);
}

size_t head_block_bytes(const HParams& hparams, Precision precision) {
    return precision == Precision::int8 ? head_block_bytes_int8(hparams.head_dim())
                                        : head_block_bytes_float32(hparams.head_dim());
}

// Throws std::bad_alloc where they are more than can be counted.
size_t cache_bytes(const Layout& layout, int n_blocks) {
    size_t bytes;
    if (__builtin_mul_overflow(Model::block_bytes(layout.hparams(), layout.precision()), n_blocks, &bytes))
        throw std::bad_alloc();
    return bytes;
}

}  // namespace

size_t Model::block_bytes(const HParams& hparams, Precision precision) {
    return head_block_bytes(hparams, precision) * static_cast<size_t>(hparams.n_head) *
           static_cast<size_t>(hparams.n_layer);
}

Model::Model(const Layout& layout, const std::byte* arena, int n_blocks, int n_threads, Isa isa)
    : layout_(layout),
      arena_(arena),
      kernels_(kernels_for(isa)),
      pool_(n_threads),
      n_blocks_(n_blocks),
      cache_(cache_bytes(layout, n_blocks)) {
    const auto& hparams = layout.hparams();
    const int attention_scratch = round_up(hparams.n_ctx, BLOCK_TOKENS) + round_up(hparams.head_dim(), PANEL);
    const int draw_scratch = 3 * round_up(hparams.n_vocab, DRAW_PADDING);
    scratch_.assign(static_cast<size_t>(n_threads),
                    std::vector<float>(static_cast<size_t>(std::max(attention_scratch, draw_scratch))));
}

HeadCache Model::head_cache(int layer, int head) const {
    const auto& hparams = layout_.hparams();
    const size_t head_bytes = head_block_bytes(hparams, layout_.precision());
    return {cache_.data() + static_cast<size_t>(layer * hparams.n_head + head) * head_bytes,
            static_cast<ptrdiff_t>(block_bytes(hparams, layout_.precision()))};
}

// Call body(first row, number of rows, first panel, last panel) for parts that together are a product with T rows.
// Of few rows every thread computes some columns, and so reads its share of the weights alone. Of many it computes the
// rows that it has in its cache, for to fetch the others' would take longer than to read all of the weights.
template <class Body>
void Model::for_parts_of_product(int t, int n_panels, Body body) {
    constexpr int MANY_ROWS = 24;             // for each thread
    const int n_groups = (n_panels + 2) / 3;  // panels are handed out by threes, as the kernels take them
    const int n_parts = t >= MANY_ROWS * pool_.size() ? pool_.size() : 1;
    pool_.parallel_for(n_parts * n_groups, [&](int begin, int end, int) {
        while (begin < end) {
            const int part = begin / n_groups, group = begin % n_groups;
            const int next_group = std::min(group + end - begin, n_groups);
            const int row = t * part / n_parts, next_row = t * (part + 1) / n_parts;
            body(row, next_row - row, 3 * group, std::min(3 * next_group, n_panels));
            begin += next_group - group;
        }
    });
}

// out (T, N) = epilogue(a (T, K) times the matrix, plus bias). In int8, a is quantised first, row by row.
void Model::multiply(const float* a, int a_channels, int t, const MatrixPlace& place, Epilogue epilogue, float* out,
                     ptrdiff_t out_stride) {
    const int n_panels = round_up(place.n, PANEL) / PANEL;
    if (layout_.precision() == Precision::float32) {
        for_parts_of_product(t, n_panels, [&](ptrdiff_t row, int n_rows, int first, int last) {
            kernels_.multiply_float32(a + row * a_channels, a_channels, n_rows, float32_matrix(place, arena_), first,
                                      last, epilogue, out + row * out_stride, out_stride);
        });
        return;
    }
    const int k = round_up(place.k, DEPTH);
    at_least(int8_, static_cast<size_t>(t) * static_cast<size_t>(k));
    at_least(int8_scale_, static_cast<size_t>(t));
    at_least(int8_offset_, static_cast<size_t>(t));
    at_least(int8_sum_, static_cast<size_t>(t));
    pool_.parallel_for(t, [&](int begin, int end, int) {
        for (int row = begin; row < end; ++row)
            kernels_.quantise(a + static_cast<ptrdiff_t>(row) * a_channels, place.k, k,
                              int8_.data() + static_cast<ptrdiff_t>(row) * k, &int8_scale_[static_cast<size_t>(row)],
                              &int8_offset_[static_cast<size_t>(row)], &int8_sum_[static_cast<size_t>(row)]);
    });
    for_parts_of_product(t, n_panels, [&](ptrdiff_t row, int n_rows, int first, int last) {
        const Int8Rows rows{int8_.data() + row * k, int8_scale_.data() + row, int8_offset_.data() + row,
                            int8_sum_.data() + row, k};
        kernels_.multiply_int8(rows, n_rows, int8_matrix(place, arena_), first, last, epilogue, out + row * out_stride,
                               out_stride);
    });
}

void Model::attention(int layer) {
    const auto& hparams = layout_.hparams();
    const int t = static_cast<int>(rows_.size()), c = hparams.n_embd, d = hparams.head_dim();
    const int qkv_channels = round_up(3 * c, PANEL), channels = layout_.channels();
    const bool int8 = layout_.precision() == Precision::int8;
    const auto keep = int8 ? kernels_.keep_int8 : kernels_.keep_float32;
    const auto attend = int8 ? kernels_.attend_int8 : kernels_.attend_float32;
    pool_.parallel_for(t * hparams.n_head, [&](int begin, int end, int) {
        for (int i = begin; i < end; ++i) {
            const Row& row = rows_[static_cast<size_t>(i / hparams.n_head)];
            const int head = i % hparams.n_head;
            const HeadCache cache = head_cache(layer, head);
            const float* qkv = qkv_.data() + static_cast<ptrdiff_t>(i / hparams.n_head) * qkv_channels + head * d;
            const int32_t block = row.slice->blocks[row.position / BLOCK_TOKENS];
            keep(qkv + c, qkv + 2 * c, d, cache.first_block + block * cache.block_stride, row.position % BLOCK_TOKENS);
        }
    });
    pool_.parallel_for(t * hparams.n_head, [&](int begin, int end, int thread) {
        for (int i = begin; i < end; ++i) {
            const Row& row = rows_[static_cast<size_t>(i / hparams.n_head)];
            const int head = i % hparams.n_head;
            attend(qkv_.data() + static_cast<ptrdiff_t>(i / hparams.n_head) * qkv_channels + head * d, d,
                   head_cache(layer, head), row.slice->blocks, row.position + 1,
                   scratch_[static_cast<size_t>(thread)].data(),
                   normal_.data() + static_cast<ptrdiff_t>(i / hparams.n_head) * channels + head * d);
        }
    });
}

// Fill x_ with the activations behind the last layer.
void Model::forward(const std::vector<Slice>& slices) {
    const auto& hparams = layout_.hparams();
    const int c = hparams.n_embd, channels = layout_.channels();
    rows_.clear();
    for (const Slice& slice : slices)
        for (int i = 0; i < slice.n; ++i) rows_.push_back({&slice, slice.position + i});
    const int t = static_cast<int>(rows_.size());
    const auto n = static_cast<size_t>(t);
    const int qkv_channels = round_up(3 * c, PANEL), wide_channels = round_up(4 * c, PANEL);
    at_least(x_, n * static_cast<size_t>(channels));
    at_least(normal_, n * static_cast<size_t>(channels));
    at_least(qkv_, n * static_cast<size_t>(qkv_channels));
    at_least(wide_, n * static_cast<size_t>(wide_channels));

    const auto* positions = reinterpret_cast<const float*>(arena_ + layout_.position_embeddings());
    pool_.parallel_for(t, [&](int begin, int end, int) {
        for (int i = begin; i < end; ++i) {
            const Row& row = rows_[static_cast<size_t>(i)];
            float* x = x_.data() + static_cast<ptrdiff_t>(i) * channels;
            read_embedding(layout_, arena_, row.slice->tokens[row.position - row.slice->position], x);
            for (int j = 0; j < c; ++j) x[j] += positions[static_cast<ptrdiff_t>(row.position) * channels + j];
        }
    });
    const auto norm = [&] {
        pool_.parallel_for(t, [&](int begin, int end, int) {
            for (int i = begin; i < end; ++i)
                kernels_.norm(x_.data() + static_cast<ptrdiff_t>(i) * channels, c, channels, nullptr, nullptr,
                              normal_.data() + static_cast<ptrdiff_t>(i) * channels);
        });
    };
    for (int layer = 0; layer < hparams.n_layer; ++layer) {
        norm();
        multiply(normal_.data(), channels, t, layout_.matrix(layer, ATTN_QKV), Epilogue::store, qkv_.data(),
                 qkv_channels);
        attention(layer);
        multiply(normal_.data(), channels, t, layout_.matrix(layer, ATTN_PROJ), Epilogue::add, x_.data(), channels);
        norm();
        multiply(normal_.data(), channels, t, layout_.matrix(layer, MLP_FC), Epilogue::gelu, wide_.data(),
                 wide_channels);
        multiply(wide_.data(), wide_channels, t, layout_.matrix(layer, MLP_PROJ), Epilogue::add, x_.data(), channels);
    }
}

// Fill logits_ (R, V padded) with those of R rows of x_.
void Model::head(const std::vector<int>& rows) {
    const auto& hparams = layout_.hparams();
    const int channels = layout_.channels(), r = static_cast<int>(rows.size());
    const int stride = round_up(hparams.n_vocab, DRAW_PADDING);
    at_least(logits_, static_cast<size_t>(r) * static_cast<size_t>(stride));
    const auto* gain = reinterpret_cast<const float*>(arena_ + layout_.final_norm());
    const float* bias = gain + channels;
    pool_.parallel_for(r, [&](int begin, int end, int) {
        for (int i = begin; i < end; ++i)
            kernels_.norm(x_.data() + static_cast<ptrdiff_t>(rows[static_cast<size_t>(i)]) * channels, hparams.n_embd,
                          channels, gain, bias, normal_.data() + static_cast<ptrdiff_t>(i) * channels);
    });
    multiply(normal_.data(), channels, r, layout_.head(), Epilogue::store, logits_.data(), stride);
}

// Write the logits (n, V) of n rows of x_, from `row` on; n may be less than 1.
void Model::hand_out_logits(int row, int n, float* out) {
    const auto n_vocab = static_cast<size_t>(layout_.hparams().n_vocab);
    const auto stride = static_cast<size_t>(round_up(layout_.hparams().n_vocab, DRAW_PADDING));
    constexpr int AT_ONCE = 64;  // else the logits of a long text would take gigabytes twice
    for (const int last = row + n; row < last;) {
        std::vector<int> rows;
        while (row < last && rows.size() < AT_ONCE) rows.push_back(row++);
        head(rows);
        for (size_t i = 0; i < rows.size(); ++i, out += n_vocab) std::copy_n(logits_.data() + i * stride, n_vocab, out);
    }
}

void Model::step(const std::vector<Slice>& slices, int32_t* drawn) {
    const std::lock_guard lock(one_at_a_time_);
    if (slices.empty()) return;  // the kernels take one row or more
    forward(slices);
    std::vector<int> drawing, last_rows;  // slices that draw, and the rows of their last tokens
    int end = 0;                          // of a slice's rows
    for (size_t i = 0; i < slices.size(); ++i) {
        const Slice& slice = slices[i];
        end += slice.n;
        hand_out_logits(end - slice.n_logits, slice.n_logits - (slice.draws ? 1 : 0), slice.logits);
        drawn[i] = -1;
        if (!slice.draws) continue;
        drawing.push_back(static_cast<int>(i));
        last_rows.push_back(end - 1);
    }
    if (drawing.empty()) return;
    head(last_rows);
    const int n_vocab = layout_.hparams().n_vocab, stride = round_up(n_vocab, DRAW_PADDING);
    pool_.parallel_for(static_cast<int>(drawing.size()), [&](int begin, int end, int thread) {
        for (int i = begin; i < end; ++i) {
            const int index = drawing[static_cast<size_t>(i)];
            const Slice& slice = slices[static_cast<size_t>(index)];
            float* logits = logits_.data() + static_cast<ptrdiff_t>(i) * stride;
            if (slice.n_logits > 0)
                std::copy_n(logits, n_vocab, slice.logits + static_cast<ptrdiff_t>(slice.n_logits - 1) * n_vocab);
            drawn[index] = kernels_.draw(logits, n_vocab, slice.sampling, scratch_[static_cast<size_t>(thread)].data());
        }
    });
}

}  // namespace pokegen
