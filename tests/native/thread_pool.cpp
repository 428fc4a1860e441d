// The thread pool does all the work, each piece of it once, and no work where there is none.
#include "thread_pool.h"

#include <atomic>
#include <chrono>
#include <ctime>
#include <thread>
#include <vector>

#include "check.h"

using pokegen::ThreadPool;
using namespace std::chrono_literals;

namespace {

// Plain integers: were two threads to write the same one, or the caller not to see it, a sanitizer would say so.
void every_index_is_visited_once(ThreadPool& pool, int n) {
    std::vector<int> visits(n);
    pool.parallel_for(n, [&](int begin, int end, int thread) {
        CHECK(0 <= begin && begin < end && end <= n);
        CHECK(0 <= thread && thread < pool.size());
        for (int i = begin; i < end; ++i) ++visits[i];
    });
    for (int count : visits) CHECK(count == 1);
}

// Nobody leaves its first range before every thread is inside one: a thread that misses the call is noticed.
void every_thread_takes_part(ThreadPool& pool) {
    std::vector<std::atomic<int>> inside(pool.size());
    std::vector<char> seen(pool.size());
    std::atomic<int> threads{0};
    pool.parallel_for(10 * pool.size(), [&](int, int, int thread) {
        CHECK(inside[thread].fetch_add(1) == 0);  // one range at a time
        if (!seen[thread]) {
            seen[thread] = true;
            ++threads;
        }
        const auto deadline = std::chrono::steady_clock::now() + 30s;
        while (threads < pool.size()) {
            CHECK(std::chrono::steady_clock::now() < deadline);
            std::this_thread::yield();
        }
        inside[thread].fetch_sub(1);
    });
}

void what_one_call_wrote_the_next_one_reads(ThreadPool& pool) {
    const int n = 64;
    std::vector<int> values(n);
    for (int step = 0; step < 2'000; ++step) {
        pool.parallel_for(n, [&](int begin, int end, int) {
            for (int i = begin; i < end; ++i) CHECK(values[i] == step);
        });
        // Backwards, so that an index is another thread's this time.
        pool.parallel_for(n, [&](int begin, int end, int) {
            for (int i = begin; i < end; ++i) ++values[n - 1 - i];
        });
    }
}

void idle_threads_sleep_and_wake_again(ThreadPool& pool) {
    for (int round = 0; round < 3; ++round) {
        every_thread_takes_part(pool);
        std::this_thread::sleep_for(5ms);  // from here on they sleep
        const std::clock_t before = std::clock();
        std::this_thread::sleep_for(200ms);
        const double busy = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
        CHECK(busy < 0.02);  // seconds of processor time, of all threads
    }
}

void a_call_that_comes_while_threads_fall_asleep_is_not_missed(ThreadPool& pool) {
    for (auto gap = 0us; gap < 150us; gap += 1us) {
        std::this_thread::sleep_for(gap);
        every_thread_takes_part(pool);
    }
}

}  // namespace

int main() {
    for (int n_threads = 1; n_threads <= 4; ++n_threads) {
        ThreadPool pool(n_threads);
        CHECK(pool.size() == n_threads);
        for (int n = 0; n < 300; ++n) every_index_is_visited_once(pool, n);
        every_index_is_visited_once(pool, 100'000);
        every_thread_takes_part(pool);
        what_one_call_wrote_the_next_one_reads(pool);
        a_call_that_comes_while_threads_fall_asleep_is_not_missed(pool);
        idle_threads_sleep_and_wake_again(pool);
    }
    for (int i = 0; i < 100; ++i) ThreadPool unused(4);  // ends at once, asleep or not
}
