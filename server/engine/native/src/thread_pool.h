// Threads that wait for work: they spin for a moment, since within a step the next piece comes soon, and then sleep.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace pokegen {

class ThreadPool {
public:
    // n_threads, 1 or more: with the caller's own. Throws std::system_error where a thread can't be started.
    explicit ThreadPool(int n_threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int size() const { return static_cast<int>(workers_.size()) + 1; }

    // Call body(begin, end, thread) for ranges that together are 0 to n - 1, and return when all are done. `thread`
    // is 0 to size() - 1, and no two ranges run at once under the same number. The body must not throw.
    // Every thread begins with a part of its own, the same for the same n, so that what it finds in its caches is what
    // it has left there. Threads that are asleep, or that the operating system runs late, are not waited for: the
    // others take over their parts.
    template <class Body>
    void parallel_for(int n, Body&& body) {
        if (n <= 0) return;
        if (workers_.empty() || n == 1) {
            body(0, n, 0);
            return;
        }
        run(
            n,
            [](void* context, int begin, int end, int thread) {
                (*static_cast<std::remove_reference_t<Body>*>(context))(begin, end, thread);
            },
            const_cast<void*>(static_cast<const void*>(&body)));
    }

private:
    using Call = void (*)(void* context, int begin, int end, int thread);

    void run(int n, Call call, void* context);
    void work(int thread);
    void take_ranges(int thread);
    bool take(int part, bool own, int& begin, int& end);
    bool has_news(uint64_t seen) const;

    // The job. Written by run() while no worker is inside; read by workers after they have entered.
    Call call_ = nullptr;
    void* context_ = nullptr;

    // What is left of each thread's part: begin in the upper half, end in the lower.
    struct alignas(64) Part {
        std::atomic<uint64_t> left{0};
    };
    std::unique_ptr<Part[]> parts_;

    // The job's number, whether it may be entered, and how many workers have: in one word, so that a worker either
    // enters a job that is open or learns that it has closed.
    alignas(64) std::atomic<uint64_t> state_{0};
    alignas(64) std::atomic<uint64_t> left_{0};

    std::atomic<int> sleepers_{0};
    std::atomic<bool> stop_{false};
    std::mutex mutex_;
    std::condition_variable wake_;
    std::vector<std::thread> workers_;
};

}  // namespace pokegen
