// The extension module server.engine.native._core; its functions are described in _core.pyi.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <stdexcept>
#include <string>

#include "batch.h"
#include "ceilings.h"
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

using Logits = nb::ndarray<nb::numpy, float, nb::ndim<2>, nb::c_contig>;

Logits rows_of_logits(size_t n, const HParams& hparams) {
    const auto n_vocab = static_cast<size_t>(hparams.n_vocab);
    auto* memory = new float[n * n_vocab];
    nb::capsule owner(memory, [](void* owned) noexcept { delete[] static_cast<float*>(owned); });
    return {memory, {n, n_vocab}, owner};
}

template <class T>
View<T> view(const Vector<T>& array) {
    return {array.data(), array.size()};
}

// The tokens drawn, and the logits of those slices that ask for them.
std::pair<std::vector<int32_t>, Logits> compute(Model& model, const Batch& batch) {
    const HParams& hparams = model.layout().hparams();
    std::vector<Slice> slices = slices_of(batch, hparams, model.n_blocks());
    size_t rows = 0;
    for (const Slice& slice : slices) rows += static_cast<size_t>(slice.n_logits);
    Logits logits = rows_of_logits(rows, hparams);
    float* out = logits.data();
    for (Slice& slice : slices) {
        slice.logits = out;
        out += static_cast<ptrdiff_t>(slice.n_logits) * hparams.n_vocab;
    }
    std::vector<int32_t> drawn(slices.size());
    {
        nb::gil_scoped_release released;
        model.step(slices, drawn.data());
    }
    return {drawn, logits};
}

std::pair<std::vector<int32_t>, Logits> step(Model& model, const Vector<int32_t>& tokens,
                                             const Vector<int32_t>& lengths, const Vector<int32_t>& positions,
                                             const Vector<int32_t>& blocks, const Vector<int32_t>& n_blocks,
                                             const Vector<uint8_t>& draws, const Vector<double>& temperature,
                                             const Vector<int32_t>& top_k, const Vector<double>& top_p,
                                             const Vector<uint64_t>& seeds, const Vector<uint64_t>& samples,
                                             const Vector<int32_t>& n_logits) {
    return compute(model, {view(tokens), view(lengths), view(positions), view(blocks), view(n_blocks), view(draws),
                           view(temperature), view(top_k), view(top_p), view(seeds), view(samples), view(n_logits)});
}

Logits logits(Model& model, const Vector<int32_t>& tokens, int position, const Vector<int32_t>& blocks) {
    const auto n = static_cast<int32_t>(tokens.size()), n_blocks = static_cast<int32_t>(blocks.size());
    const uint8_t draws = false;
    const double unused = 0;
    const int32_t top_k = 0;
    const uint64_t seed = 0;
    return compute(model, {view(tokens),
                           {&n, 1},
                           {&position, 1},
                           view(blocks),
                           {&n_blocks, 1},
                           {&draws, 1},
                           {&unused, 1},
                           {&top_k, 1},
                           {&unused, 1},
                           {&seed, 1},
                           {&seed, 1},
                           {&n, 1}})
        .second;
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
