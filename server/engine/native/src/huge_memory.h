// Memory in huge pages where the system has them: a step reads all of the weights, and with small pages it would wait
// for the page tables and at the beginning of every page for the memory.
#pragma once

#include <cstddef>

namespace pokegen {

class HugeMemory {
public:
    // `size` bytes of zeros, which take no memory before they are touched. Throws std::bad_alloc.
    explicit HugeMemory(size_t size);
    ~HugeMemory();
    HugeMemory(const HugeMemory&) = delete;
    HugeMemory& operator=(const HugeMemory&) = delete;

    std::byte* data() const { return data_; }
    size_t size() const { return size_; }

private:
    void* mapping_;
    size_t mapped_;
    std::byte* data_;
    size_t size_;
};

}  // namespace pokegen
