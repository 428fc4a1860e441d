#include "ceilings.h"

#include <algorithm>
#include <atomic>
#include <chrono>

#include "huge_memory.h"
#include "thread_pool.h"

namespace pokegen {
namespace {

using Clock = std::chrono::steady_clock;

// The highest rate at which the pool's threads together do `amount` each, over rounds that take `seconds` in all.
template <class Work>
double best_rate(ThreadPool& pool, double seconds, double amount, Work work) {
    double best = 0;
    const auto over = Clock::now() + std::chrono::duration<double>(seconds);
    do {
        const auto start = Clock::now();
        pool.parallel_for(pool.size(), [&](int begin, int end, int) {
            for (int i = begin; i < end; ++i) work(i);
        });
        best = std::max(best, pool.size() * amount / std::chrono::duration<double>(Clock::now() - start).count());
    } while (Clock::now() < over);
    return best;
}

}  // namespace

Ceilings measure_ceilings(Isa isa, int n_threads, double seconds) {
    const Kernels& kernels = kernels_for(isa);
    ThreadPool pool(n_threads);
    std::atomic<int64_t> sink{0};  // so that nothing is optimised away

    constexpr int64_t PRODUCTS = 2'000'000'000;
    const double multiply_adds =
        best_rate(pool, seconds / 2, PRODUCTS, [&](int) { sink += kernels.multiply_adds(PRODUCTS); });

    const int64_t part = (int64_t{256} << 20) / n_threads / 4096 * 4096;  // far more than the caches hold
    const HugeMemory memory(static_cast<size_t>(part * n_threads));
    std::fill_n(memory.data(), memory.size(), std::byte{1});
    const double bytes = best_rate(pool, seconds / 2, static_cast<double>(part),
                                   [&](int i) { sink += kernels.read_bytes(memory.data() + i * part, part); });
    return {multiply_adds, bytes};
}

}  // namespace pokegen
