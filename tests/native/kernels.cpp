// Every kernel of every instruction set that this processor has, beside the same in plain loops. All arrays are as
// large as kernels.h says and no larger, so that the address sanitizer sees whatever goes beyond them.
#include "kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "check.h"
#include "random.h"

using namespace pokegen;

namespace {

bool close(double a, double b, double tolerance) { return std::fabs(a - b) <= tolerance * (1 + std::fabs(b)); }

std::vector<float> padded(std::vector<float> values, int multiple) {
    values.resize(static_cast<size_t>(round_up(static_cast<int>(values.size()), multiple)));
    return values;
}

void norm(const Kernels& kernels) {
    const int n = between(2, 100), n_padded = round_up(n, PANEL);
    const auto x = padded(normal(static_cast<size_t>(n), 3), PANEL),
               gain = padded(normal(static_cast<size_t>(n)), PANEL),
               bias = padded(normal(static_cast<size_t>(n)), PANEL);
    const bool affine = between(0, 1);
    std::vector<float> out(static_cast<size_t>(n_padded), -1.0f);
    kernels.norm(x.data(), n, n_padded, affine ? gain.data() : nullptr, affine ? bias.data() : nullptr, out.data());
    const double mean = std::accumulate(x.begin(), x.begin() + n, 0.0) / n;
    double variance = 0;
    for (int i = 0; i < n; ++i) variance += (x[i] - mean) * (x[i] - mean) / n;
    for (int i = 0; i < n; ++i) {
        const double y = (x[i] - mean) / std::sqrt(variance + 1e-5);
        CHECK(close(out[i], affine ? y * gain[i] + bias[i] : y, 1e-4));
    }
    for (int i = n; i < n_padded; ++i) CHECK(out[i] == 0);
}

void quantise(const Kernels& kernels) {
    const int n = between(1, 100), n_padded = round_up(n, DEPTH);
    auto x = normal(static_cast<size_t>(n), std::exp(static_cast<float>(between(-100, 80))));
    const float shift = static_cast<float>(between(-3, 3)) * x[0];  // as much as to leave all on one side of zero
    for (float& value : x) value += shift;
    if (between(0, 9) == 0) std::fill(x.begin(), x.end(), shift);
    std::vector<int8_t> out(static_cast<size_t>(n_padded), 1);
    float scale, offset;
    int32_t sum;
    kernels.quantise(x.data(), n, n_padded, out.data(), &scale, &offset, &sum);
    const auto [least, most] = std::minmax_element(x.begin(), x.end());
    const float middle = *least / 2 + *most / 2, reach = std::max(*most - middle, middle - *least);
    CHECK(offset == middle && scale == reach / 127);
    for (int i = 0; i < n; ++i) {
        const int integer = out[static_cast<size_t>(i)];
        const double error = std::fabs(offset + static_cast<double>(scale) * integer - x[static_cast<size_t>(i)]);
        CHECK(-127 <= integer && integer <= 127);
        CHECK(reach < SMALLEST_BOUND ? integer == 0 : error <= 0.501 * scale);
    }
    for (int i = n; i < n_padded; ++i) CHECK(out[i] == 0);
    CHECK(sum == std::accumulate(out.begin(), out.end(), 0));

    x[static_cast<size_t>(between(0, n - 1))] = between(0, 1) ? std::nanf("") : std::numeric_limits<float>::infinity();
    kernels.quantise(x.data(), n, n_padded, out.data(), &scale, &offset, &sum);
    CHECK(!std::isfinite(scale));
}

struct Product {
    int t, k, n;
    std::vector<float> a, b, bias;

    Product() : t(between(1, 20)), k(between(1, 70)), n(between(1, 130)) {
        a = normal(static_cast<size_t>(t * k));
        for (int row = 0; row < t; row += 2)  // as behind a GELU: more on one side of zero
            for (int i = 0; i < k; ++i) a[static_cast<size_t>(row * k + i)] += 1;
        b = normal(static_cast<size_t>(k * n));
        bias = normal(static_cast<size_t>(n));
    }

    // The panels from `first` to the end, and no other, are epilogue(what + bias), where `what` is the plain product.
    template <class Multiply, class Exact>
    void check(Multiply multiply, Exact exact, double tolerance) const {
        const int n_padded = round_up(n, PANEL), n_panels = n_padded / PANEL;
        const auto before = normal(static_cast<size_t>(t * n_padded));
        for (const Epilogue epilogue : {Epilogue::store, Epilogue::add, Epilogue::gelu}) {
            const int first = between(0, n_panels - 1), last = between(first + 1, n_panels);
            auto out = before;
            multiply(first, last, epilogue, out.data(), n_padded);
            for (int row = 0; row < t; ++row)
                for (int column = 0; column < n; ++column) {
                    const float was = before[static_cast<size_t>(row * n_padded + column)],
                                is = out[static_cast<size_t>(row * n_padded + column)];
                    if (column < first * PANEL || column >= last * PANEL) {
                        CHECK(is == was);
                        continue;
                    }
                    double x = exact(row, column) + bias[static_cast<size_t>(column)];
                    if (epilogue == Epilogue::add) x += was;
                    if (epilogue == Epilogue::gelu)
                        x = x / 2 * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
                    CHECK(close(is, x, tolerance));
                }
        }
    }
};

// The packed matrix is the last layer's last: behind it the arena ends.
void multiply(const Kernels& kernels, Precision precision) {
    const Product product;
    // A layer's last matrix has 4C rows and C columns; any other shape is packed by hand, through the head's place.
    const Layout layout({product.n, 1, product.k, 1, 1}, precision);
    const Bytes arena = zeros(layout.size());
    std::vector<float> transposed(product.b.size());
    for (int i = 0; i < product.k; ++i)
        for (int j = 0; j < product.n; ++j)
            transposed[static_cast<size_t>(j * product.k + i)] = product.b[static_cast<size_t>(i * product.n + j)];
    pack_embeddings(layout, transposed.data(), 0, product.n, arena.get());
    const MatrixPlace& place = layout.head();
    std::copy(product.bias.begin(), product.bias.end(), reinterpret_cast<float*>(arena.get() + place.bias));

    if (precision == Precision::float32) {
        const auto run = [&](int first, int last, Epilogue epilogue, float* out, ptrdiff_t stride) {
            kernels.multiply_float32(product.a.data(), product.k, product.t, float32_matrix(place, arena.get()), first,
                                     last, epilogue, out, stride);
        };
        const auto exact = [&](int row, int column) {
            double sum = 0;
            for (int i = 0; i < product.k; ++i)
                sum += static_cast<double>(product.a[static_cast<size_t>(row * product.k + i)]) *
                       product.b[static_cast<size_t>(i * product.n + column)];
            return sum;
        };
        product.check(run, exact, 1e-5);
        return;
    }
    const int k = round_up(product.k, DEPTH);
    std::vector<int8_t> values(static_cast<size_t>(product.t * k));
    std::vector<float> scale(static_cast<size_t>(product.t)), offset(static_cast<size_t>(product.t));
    std::vector<int32_t> sum(static_cast<size_t>(product.t));
    for (int row = 0; row < product.t; ++row)
        kernels.quantise(product.a.data() + row * product.k, product.k, k, values.data() + row * k,
                         &scale[static_cast<size_t>(row)], &offset[static_cast<size_t>(row)],
                         &sum[static_cast<size_t>(row)]);
    const auto run = [&](int first, int last, Epilogue epilogue, float* out, ptrdiff_t stride) {
        kernels.multiply_int8({values.data(), scale.data(), offset.data(), sum.data(), k}, product.t,
                              int8_matrix(place, arena.get()), first, last, epilogue, out, stride);
    };
    const auto exact = [&](int row, int column) {
        std::vector<float> weights(static_cast<size_t>(layout.channels()));
        read_embedding(layout, arena.get(), column, weights.data());  // the column as it was rounded
        double total = 0;
        for (int i = 0; i < product.k; ++i)
            total += (offset[static_cast<size_t>(row)] +
                      static_cast<double>(scale[static_cast<size_t>(row)]) * values[static_cast<size_t>(row * k + i)]) *
                     weights[static_cast<size_t>(i)];
        return total;
    };
    product.check(run, exact, 1e-5);
}

// A sequence in blocks of its own, that lie in any order: the last byte of the cache belongs to one of them.
void attention(const Kernels& kernels, Precision precision) {
    const bool int8 = precision == Precision::int8;
    const int d = between(1, 70), n = between(1, 70);
    const auto n_blocks = static_cast<size_t>((n + BLOCK_TOKENS - 1) / BLOCK_TOKENS);
    const size_t block_bytes = int8 ? head_block_bytes_int8(d) : head_block_bytes_float32(d);
    CHECK(block_bytes % 64 == 0);
    const Bytes cache = zeros(n_blocks * block_bytes);
    std::vector<int32_t> blocks(n_blocks);
    std::iota(blocks.begin(), blocks.end(), 0);
    std::shuffle(blocks.begin(), blocks.end(), generator());

    const auto q = normal(static_cast<size_t>(d)), k = normal(static_cast<size_t>(n * d)),
               v = normal(static_cast<size_t>(n * d));
    for (int token = 0; token < n; ++token)
        (int8 ? kernels.keep_int8 : kernels.keep_float32)(
            k.data() + token * d, v.data() + token * d, d,
            cache.get() + static_cast<size_t>(blocks[static_cast<size_t>(token / BLOCK_TOKENS)]) * block_bytes,
            token % BLOCK_TOKENS);
    std::vector<float> scratch(static_cast<size_t>(round_up(n, BLOCK_TOKENS) + round_up(d, PANEL))),
        out(static_cast<size_t>(d));
    (int8 ? kernels.attend_int8 : kernels.attend_float32)(
        q.data(), d, {cache.get(), static_cast<ptrdiff_t>(block_bytes)}, blocks.data(), n, scratch.data(), out.data());

    std::vector<double> weights(static_cast<size_t>(n)), mixed(static_cast<size_t>(d));
    double total = 0;
    for (int token = 0; token < n; ++token) {
        double score = 0;
        for (int i = 0; i < d; ++i)
            score += static_cast<double>(q[static_cast<size_t>(i)]) * k[static_cast<size_t>(token * d + i)];
        total += weights[static_cast<size_t>(token)] = std::exp(score / std::sqrt(d));
    }
    for (int token = 0; token < n; ++token)
        for (int i = 0; i < d; ++i)
            mixed[static_cast<size_t>(i)] +=
                weights[static_cast<size_t>(token)] / total * v[static_cast<size_t>(token * d + i)];
    for (int i = 0; i < d; ++i)
        CHECK(std::fabs(out[static_cast<size_t>(i)] - mixed[static_cast<size_t>(i)]) <= (int8 ? 0.1 : 1e-4));
}

}  // namespace

int main() {
    for (const Isa isa : {Isa::portable, Isa::avx2, Isa::avx512_vnni}) {
        if (!is_supported(isa)) continue;
        const Kernels& kernels = kernels_for(isa);
        for (int round = 0; round < 200; ++round) {
            norm(kernels);
            quantise(kernels);
            for (const Precision precision : {Precision::int8, Precision::float32}) {
                multiply(kernels, precision);
                attention(kernels, precision);
            }
        }
        CHECK(kernels.multiply_adds(1'000'000) > 0);
        std::vector<std::byte> bytes(8 * 1024);
        bytes.back() = std::byte{1};
        CHECK(kernels.read_bytes(bytes.data(), static_cast<int64_t>(bytes.size())) == 1 << 24);
    }
}
