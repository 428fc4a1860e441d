#include "huge_memory.h"

#include <sanitizer/asan_interface.h>  // nothing, but where the address sanitizer watches
#include <sys/mman.h>

#include <cstdint>
#include <new>

namespace pokegen {
namespace {

constexpr size_t HUGE_PAGE = size_t{2} << 20;

}  // namespace

HugeMemory::HugeMemory(size_t size) : mapped_((size / HUGE_PAGE + 2) * HUGE_PAGE), size_(size) {
    if (size > PTRDIFF_MAX - 2 * HUGE_PAGE) throw std::bad_alloc();
    mapping_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping_ == MAP_FAILED) throw std::bad_alloc();
    const auto address = (reinterpret_cast<uintptr_t>(mapping_) + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
    data_ = reinterpret_cast<std::byte*>(address);
#ifdef MADV_HUGEPAGE
    madvise(data_, size, MADV_HUGEPAGE);  // where it is refused, small pages do, only slower
#endif
    ASAN_POISON_MEMORY_REGION(data_ + size, static_cast<std::byte*>(mapping_) + mapped_ - (data_ + size));
}

HugeMemory::~HugeMemory() {
    ASAN_UNPOISON_MEMORY_REGION(data_ + size_, static_cast<std::byte*>(mapping_) + mapped_ - (data_ + size_));
    munmap(mapping_, mapped_);
}

}  // namespace pokegen
