// The extension module server.engine.native._core; its functions are described in _core.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "ceilings.h"
#include "model.h"
#include "philox.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace pokegen {
namespace {

template <class T>
using Vector = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Rows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Arena = nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using ConstArena = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

void require(bool holds, const char* what) {
    if (!holds) throw std::invalid_argument(what);
}

const std::vector<std::pair<std::string, Isa>> ISAS = {
    {"portable", Isa::portable}, {"avx2", Isa::avx2}, {"avx512-vnni", Isa::avx512_vnni}};

Isa isa_of(const std::string& name) {
    if (name == "auto") return best_isa();
    for (const auto& [known, isa] : ISAS) {
        if (known != name) continue;
        if (!is_supported(isa)) throw std::invalid_argument("this processor does not have the instruction set " + name);
        return isa;
    }
    throw std::invalid_argument("the instruction set must be auto, portable, avx2 or avx512-vnni, not " + name);
}

std::vector<std::string> supported_isas() {
    std::vector<std::string> names;
    for (const auto& [name, isa] : ISAS)
        if (is_supported(isa)) names.push_back(name);
    return names;
}

Precision precision_of(const std::string& name) {
    if (name == "int8") return Precision::int8;
    if (name == "float32") return Precision::float32;
    throw std::invalid_argument("the precision must be int8 or float32, not " + name);
}

std::byte* bytes_of(const Layout& layout, const Arena& arena) {
    require(arena.size() == layout.size(), "the arena must have layout.size bytes");
    return reinterpret_cast<std::byte*>(arena.data());
}

void pack_matrix(const Layout& layout, const Arena& arena, int layer, int which, const Rows& weights,
                 const Vector<float>& bias) {
    require(0 <= layer && layer < layout.hparams().n_layer && 0 <= which && which < 4, "there is no such matrix");
    const MatrixPlace& place = layout.matrix(layer, which);
    require(static_cast<int>(weights.shape(0)) == place.k && static_cast<int>(weights.shape(1)) == place.n,
            "the weights have another shape");
    require(static_cast<int>(bias.size()) == place.n, "the bias has another length");
    pack(layout, place, weights.data(), bias.data(), bytes_of(layout, arena));
}

void pack_token_embeddings(const Layout& layout, const Arena& arena, int first, const Rows& rows) {
    const auto n = static_cast<int64_t>(rows.shape(0));
    require(static_cast<int>(rows.shape(1)) == layout.hparams().n_embd, "an embedding has another length");
    require(first >= 0 && first + n <= layout.hparams().n_vocab, "there are no such tokens");
    pack_embeddings(layout, rows.data(), first, static_cast<int>(n), bytes_of(layout, arena));
}

void pack_rows(const Layout& layout, const Arena& arena, const Rows& rows, size_t offset, int n) {
    const auto c = static_cast<size_t>(layout.hparams().n_embd);
    require(static_cast<int>(rows.shape(0)) == n && rows.shape(1) == c, "the rows have another shape");
    auto* to = reinterpret_cast<float*>(bytes_of(layout, arena) + offset);
    for (size_t i = 0; i < rows.shape(0); ++i)
        std::copy_n(rows.data() + i * c, c, to + i * static_cast<size_t>(layout.channels()));
}

// Where a sequence ends that stands at `position` with n tokens more.
int end_of(const HParams& hparams, int64_t position, int64_t n) {
    require(n > 0 && position >= 0 && position + n <= hparams.n_ctx,
            "the tokens must be one or more, and lie within n_ctx");
    return static_cast<int>(position + n);
}

Sampling checked(const Sampling& sampling) {
    require(0 <= sampling.temperature && sampling.temperature <= MAX_TEMPERATURE, "temperature must be from 0 to 10");
    require(sampling.top_k >= 0, "top_k must be 0 or more");
    require(0 <= sampling.top_p && sampling.top_p <= 1, "top_p must be from 0 to 1");
    return sampling;
}

using Logits = nb::ndarray<nb::numpy, float, nb::ndim<2>, nb::c_contig>;

Logits rows_of_logits(size_t n, const HParams& hparams) {
    const auto n_vocab = static_cast<size_t>(hparams.n_vocab);
    auto* memory = new float[n * n_vocab];
    nb::capsule owner(memory, [](void* owned) noexcept { delete[] static_cast<float*>(owned); });
    return {memory, {n, n_vocab}, owner};
}

std::pair<std::vector<int32_t>, Logits> step(Model& model, const Vector<int32_t>& tokens,
                                             const Vector<int32_t>& lengths, const Vector<int32_t>& positions,
                                             const Vector<int32_t>& blocks, const Vector<int32_t>& n_blocks,
                                             const Vector<uint8_t>& draws, const Vector<double>& temperature,
                                             const Vector<int32_t>& top_k, const Vector<double>& top_p,
                                             const Vector<uint64_t>& seeds, const Vector<uint64_t>& samples,
                                             const Vector<int32_t>& n_logits) {
    const size_t n = lengths.size();
    for (size_t size : {positions.size(), n_blocks.size(), draws.size(), temperature.size(), top_k.size(), top_p.size(),
                        seeds.size(), samples.size(), n_logits.size()})
        require(size == n, "there must be one of each for every slice");
    const HParams& hparams = model.layout().hparams();
    for (size_t i = 0; i < tokens.size(); ++i)
        require(0 <= tokens(i) && tokens(i) < hparams.n_vocab, "a token is not in the vocabulary");
    for (size_t i = 0; i < blocks.size(); ++i)
        require(0 <= blocks(i) && blocks(i) < model.n_blocks(), "there is no such block");
    std::vector<Slice> slices;
    slices.reserve(n);
    size_t token = 0, block = 0, row = 0;
    for (size_t i = 0; i < n; ++i) {
        const int end = end_of(hparams, positions(i), lengths(i));
        require(n_blocks(i) >= 0 && static_cast<int64_t>(n_blocks(i)) * BLOCK_TOKENS >= end,
                "a slice has too few blocks");
        const Sampling sampling =
            checked({temperature(i), top_p(i), top_k(i), seeds(i), samples(i), static_cast<uint64_t>(end)});
        require(0 <= n_logits(i) && n_logits(i) <= lengths(i), "n_logits must be from 0 to a slice's length");
        slices.push_back({tokens.data() + token, lengths(i), positions(i), blocks.data() + block, draws(i) != 0,
                          sampling, n_logits(i)});
        token += static_cast<size_t>(lengths(i));
        block += static_cast<size_t>(n_blocks(i));
        row += static_cast<size_t>(n_logits(i));
        require(token <= tokens.size() && block <= blocks.size(),
                "there are fewer tokens or blocks than the slices have");
    }
    require(token == tokens.size() && block == blocks.size(), "there are more tokens or blocks than the slices have");
    std::vector<int32_t> drawn(n);
    Logits logits = rows_of_logits(row, hparams);
    float* out = logits.data();
    for (Slice& slice : slices) {
        slice.logits = out;
        out += static_cast<ptrdiff_t>(slice.n_logits) * hparams.n_vocab;
    }
    {
        nb::gil_scoped_release released;
        model.step(slices, drawn.data());
    }
    return {drawn, logits};
}

Logits logits(Model& model, const Vector<int32_t>& tokens, int position, const Vector<int32_t>& blocks) {
    const HParams& hparams = model.layout().hparams();
    const int end = end_of(hparams, position, static_cast<int64_t>(tokens.size())), n = end - position;
    require(static_cast<int64_t>(blocks.size()) * BLOCK_TOKENS >= end, "there are too few blocks");
    for (int i = 0; i < n; ++i)
        require(0 <= tokens(static_cast<size_t>(i)) && tokens(static_cast<size_t>(i)) < hparams.n_vocab,
                "a token is not in the vocabulary");
    for (size_t i = 0; i < blocks.size(); ++i)
        require(0 <= blocks(i) && blocks(i) < model.n_blocks(), "there is no such block");
    Logits logits = rows_of_logits(tokens.size(), hparams);
    {
        nb::gil_scoped_release released;
        int32_t none;
        model.step({{tokens.data(), n, position, blocks.data(), false, {}, n, logits.data()}}, &none);
    }
    return logits;
}

std::vector<int32_t> draw(const Vector<float>& logits, double temperature, int32_t top_k, double top_p, uint64_t seed,
                          uint64_t sample, uint64_t position, int n, const std::string& isa) {
    require(logits.size() > 0, "there are no logits");
    const auto size = static_cast<size_t>(logits.size());
    const Draw draw_once = kernels_for(isa_of(isa)).draw;
    const auto padded = (size + DRAW_PADDING - 1) / DRAW_PADDING * DRAW_PADDING;
    std::vector<float> copy(padded), scratch(3 * padded);
    std::copy_n(logits.data(), size, copy.data());
    std::vector<int32_t> tokens;
    Sampling sampling = checked({temperature, top_p, top_k, seed, sample, position});
    for (int i = 0; i < n; ++i, ++sampling.position)
        tokens.push_back(draw_once(copy.data(), static_cast<int>(size), sampling, scratch.data()));
    return tokens;
}

nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>> allocate(size_t size) {
    auto* memory = new HugeMemory(size);
    nb::capsule owner(memory, [](void* owned) noexcept { delete static_cast<HugeMemory*>(owned); });
    return {memory->data(), {size}, owner};
}

NB_MODULE(_core, m) {
    nb::set_leak_warnings(false);  // a service keeps its model until the process ends

    // Of an array of another type, nanobind would make a copy, which is gone when the call returns.
    const auto arena = "arena"_a.noconvert();

    nb::class_<Layout>(m, "Layout")
        .def(
            "__init__",
            [](Layout* self, int n_vocab, int n_ctx, int n_embd, int n_head, int n_layer,
               const std::string& precision) {
                new (self) Layout({n_vocab, n_ctx, n_embd, n_head, n_layer}, precision_of(precision));
            },
            "n_vocab"_a, "n_ctx"_a, "n_embd"_a, "n_head"_a, "n_layer"_a, "precision"_a)
        .def_prop_ro("size", &Layout::size)
        .def_prop_ro("block_bytes",
                     [](const Layout& layout) { return Model::block_bytes(layout.hparams(), layout.precision()); })
        .def("pack_matrix", &pack_matrix, arena, "layer"_a, "which"_a, "weights"_a, "bias"_a)
        .def("pack_token_embeddings", &pack_token_embeddings, arena, "first"_a, "rows"_a)
        .def(
            "pack_position_embeddings",
            [](const Layout& layout, const Arena& arena, const Rows& rows) {
                pack_rows(layout, arena, rows, layout.position_embeddings(), layout.hparams().n_ctx);
            },
            arena, "rows"_a)
        .def(
            "pack_final_norm",
            [](const Layout& layout, const Arena& arena, const Rows& gain_and_bias) {
                require(gain_and_bias.shape(0) == 2, "the rows must be gain and bias");
                pack_rows(layout, arena, gain_and_bias, layout.final_norm(), 2);
            },
            arena, "gain_and_bias"_a);

    nb::class_<Model>(m, "Model")
        .def(
            "__init__",
            [](Model* self, const Layout& layout, const ConstArena& arena, int n_blocks, int threads,
               const std::string& isa) {
                require(n_blocks >= 1, "n_blocks must be at least 1");
                require(arena.size() == layout.size(), "the arena must have layout.size bytes");
                require(threads >= 1 && threads <= 256, "threads must be from 1 to 256");
                new (self)
                    Model(layout, reinterpret_cast<const std::byte*>(arena.data()), n_blocks, threads, isa_of(isa));
            },
            "layout"_a, arena, "n_blocks"_a, "threads"_a, "isa"_a, nb::keep_alive<1, 3>())
        .def("step", &step, "tokens"_a, "lengths"_a, "positions"_a, "blocks"_a, "n_blocks"_a, "draws"_a,
             "temperature"_a, "top_k"_a, "top_p"_a, "seeds"_a, "samples"_a, "n_logits"_a)
        .def("logits", &logits, "tokens"_a, "position"_a, "blocks"_a);

    m.def("allocate", &allocate, "size"_a);
    m.def("draw", &draw, "logits"_a, "temperature"_a, "top_k"_a, "top_p"_a, "seed"_a, "sample"_a, "position"_a, "n"_a,
          "isa"_a);
    m.def("uniform", &uniform, "seed"_a, "position"_a, "sample"_a);
    m.def("supported_isas", &supported_isas);
    m.def(
        "ceilings",
        [](const std::string& isa, int threads, double seconds) {
            require(threads >= 1 && threads <= 256, "threads must be from 1 to 256");
            const Isa chosen = isa_of(isa);
            nb::gil_scoped_release released;
            const Ceilings ceilings = measure_ceilings(chosen, threads, seconds);
            return std::pair(ceilings.multiply_adds, ceilings.bytes);
        },
        "isa"_a, "threads"_a, "seconds"_a);
    m.attr("NOT_FINITE") = NOT_FINITE;
}

}  // namespace
}  // namespace pokegen
