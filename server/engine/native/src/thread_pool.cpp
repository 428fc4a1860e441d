#include "thread_pool.h"

#include <algorithm>
#include <chrono>

namespace pokegen {
namespace {

constexpr uint64_t ENTERED = 0xFFFF;  // lower bits: workers inside of the job
constexpr uint64_t OPEN = 0x10000;
constexpr int NUMBER = 17;  // the job's number begins at this bit

// Longer than the pauses within a step, shorter than those between steps.
constexpr auto SPIN = std::chrono::microseconds(50);

inline void pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

}  // namespace

ThreadPool::ThreadPool(int n_threads) : parts_(new Part[static_cast<size_t>(n_threads)]) {
    try {
        for (int thread = 1; thread < n_threads; ++thread) workers_.emplace_back(&ThreadPool::work, this, thread);
    } catch (...) {
        stop_ = true;
        {
            std::lock_guard lock(mutex_);
        }
        wake_.notify_all();
        for (auto& worker : workers_) worker.join();
        throw;
    }
}

ThreadPool::~ThreadPool() {
    stop_ = true;
    {
        std::lock_guard lock(mutex_);  // nobody is between looking at stop_ and falling asleep
    }
    wake_.notify_all();
    for (auto& worker : workers_) worker.join();
}

void ThreadPool::run(int n, Call call, void* context) {
    call_ = call;
    context_ = context;
    for (int i = 0; i < size(); ++i) {
        const auto begin = static_cast<uint64_t>(n) * static_cast<uint64_t>(i) / static_cast<uint64_t>(size());
        const auto end = static_cast<uint64_t>(n) * static_cast<uint64_t>(i + 1) / static_cast<uint64_t>(size());
        parts_[static_cast<size_t>(i)].left.store(begin << 32 | end, std::memory_order_relaxed);
    }
    left_.store(0, std::memory_order_relaxed);
    const uint64_t number = (state_.load(std::memory_order_relaxed) >> NUMBER) + 1;
    // Sequentially consistent with sleepers_: either the sleeper sees the job, or it is seen here and woken.
    state_.store(number << NUMBER | OPEN);
    if (sleepers_.load() > 0) {
        {
            std::lock_guard lock(mutex_);
        }
        wake_.notify_all();
    }
    take_ranges(0);
    const uint64_t entered = state_.fetch_and(~OPEN) & ENTERED;
    for (int spins = 0; left_.load(std::memory_order_acquire) != entered; ++spins) {
        if (spins < 10'000)
            pause();
        else
            std::this_thread::yield();  // the worker inside isn't running: let it
    }
}

bool ThreadPool::has_news(uint64_t seen) const {
    const uint64_t state = state_.load();
    return stop_.load(std::memory_order_relaxed) || ((state & OPEN) && state >> NUMBER != seen);
}

void ThreadPool::work(int thread) {
    uint64_t seen = 0;
    while (true) {
        auto spin_until = std::chrono::steady_clock::now() + SPIN;
        for (int spins = 1; !has_news(seen); ++spins) {
            pause();
            if (spins % 64 == 0 && std::chrono::steady_clock::now() >= spin_until) {
                std::unique_lock lock(mutex_);
                sleepers_.fetch_add(1);
                wake_.wait(lock, [&] { return has_news(seen); });
                sleepers_.fetch_sub(1);
            }
        }
        if (stop_.load(std::memory_order_relaxed)) return;
        uint64_t state = state_.load(std::memory_order_relaxed);
        while ((state & OPEN) && state >> NUMBER != seen) {
            if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
                seen = state >> NUMBER;
                take_ranges(thread);
                left_.fetch_add(1, std::memory_order_release);
                break;
            }
        }
    }
}

// Take a range from a thread's part: its own thread from the front, others from the back, so that they meet late.
bool ThreadPool::take(int part, bool own, int& begin, int& end) {
    auto& left = parts_[static_cast<size_t>(part)].left;
    uint64_t old = left.load(std::memory_order_relaxed);
    while (true) {
        begin = static_cast<int>(old >> 32);
        end = static_cast<int>(old & 0xFFFFFFFF);
        if (begin >= end) return false;
        // Large ranges first, for few atomic operations; small ones last, so that all end at the same time.
        const int taken = std::max(1, (end - begin) / 4);
        const int middle = own ? begin + taken : end - taken;
        const uint64_t rest = own ? static_cast<uint64_t>(middle) << 32 | static_cast<uint64_t>(end)
                                  : static_cast<uint64_t>(begin) << 32 | static_cast<uint64_t>(middle);
        if (left.compare_exchange_weak(old, rest, std::memory_order_relaxed)) {
            (own ? end : begin) = middle;
            return true;
        }
    }
}

void ThreadPool::take_ranges(int thread) {
    int begin, end;
    for (int i = 0; i < size(); ++i) {
        const int part = (thread + i) % size();
        while (take(part, i == 0, begin, end)) call_(context_, begin, end, thread);
    }
}

}  // namespace pokegen
