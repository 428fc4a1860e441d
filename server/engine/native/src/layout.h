// Where the packed weights of a model lie in its arena: one piece of memory, the same on every processor.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels.h"

namespace pokegen {

enum class Precision { int8, float32 };

struct HParams {
    int n_vocab, n_ctx, n_embd, n_head, n_layer;

    int head_dim() const { return n_embd / n_head; }
};

// A matrix of K rows and N columns. Offsets are bytes from the arena's beginning.
struct MatrixPlace {
    int k, n;
    size_t panels, scale, column_sum, bias;  // scale and column_sum: int8 only
};

class Layout {
public:
    // Throws std::invalid_argument for sizes that are not positive, or that do not fit together.
    Layout(const HParams&, Precision);

    const HParams& hparams() const { return hparams_; }
    Precision precision() const { return precision_; }
    size_t size() const { return size_; }  // bytes

    const MatrixPlace& head() const { return head_; }                    // token embeddings, transposed: (C, V)
    MatrixPlace matrix(int layer, int which) const;                      // which: see MatrixOfLayer
    size_t position_embeddings() const { return position_embeddings_; }  // (n_ctx, C padded), float32
    size_t final_norm() const { return final_norm_; }                    // ln_f's gain and bias (2, C padded), float32

    // C padded to whole panels, as activations are.
    int channels() const { return round_up(hparams_.n_embd, PANEL); }

private:
    size_t reserve(size_t bytes);
    MatrixPlace reserve_matrix(int k, int n);

    HParams hparams_;
    Precision precision_;
    size_t size_ = 0;
    MatrixPlace head_;
    std::array<MatrixPlace, 4> matrices_;  // of the first layer
    size_t layer_size_, position_embeddings_, final_norm_;
};

// The matrices of a layer, in the order in which they are computed.
enum MatrixOfLayer { ATTN_QKV, ATTN_PROJ, MLP_FC, MLP_PROJ };

Int8Matrix int8_matrix(const MatrixPlace&, const std::byte* arena);
Float32Matrix float32_matrix(const MatrixPlace&, const std::byte* arena);

// Pack a matrix (K, N), row-major, with the bias (N,) of its product into its place.
void pack(const Layout&, const MatrixPlace&, const float* weights, const float* bias, std::byte* arena);

// Pack `n` token embeddings (n, C), row-major, of which the first is that of token `first`.
void pack_embeddings(const Layout&, const float* rows, int first, int n, std::byte* arena);

// Read a token's embedding (C padded) back.
void read_embedding(const Layout&, const std::byte* arena, int token, float* out);

}  // namespace pokegen
