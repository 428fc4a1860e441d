// What runs a target where libFuzzer is not installed: TARGET RUNS PATH... gives it every input of PATHS, then RUNS
// mutations of them, the same every time. The input that ends it is written to TARGET.finding.
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <sanitizer/common_interface_defs.h>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;

constexpr size_t LONGEST = 4096;

Bytes current;
std::string finding;

void write_finding() {
    std::ofstream(finding, std::ios::binary).write(reinterpret_cast<const char*>(current.data()), current.size());
    std::fprintf(stderr, "the input is in %s\n", finding.c_str());
}

void run(const Bytes& input) {
    current = input;
    LLVMFuzzerTestOneInput(current.data(), current.size());
}

Bytes mutated(std::mt19937& random, Bytes input) {
    const auto below = [&](size_t n) { return static_cast<ptrdiff_t>(random() % n); };
    for (ptrdiff_t edits = 1 + below(6); edits > 0; --edits) {
        const auto at = input.begin() + below(input.size() + 1);
        const ptrdiff_t size = std::min<ptrdiff_t>(1 << below(6), input.end() - at);
        switch (below(4)) {
            case 0:
                std::generate_n(at, size, [&] { return static_cast<uint8_t>(random()); });
                break;
            case 1:
                input.erase(at, at + size);
                break;
            case 2: {
                const Bytes again(at, at + size);
                input.insert(input.begin() + below(input.size() + 1), again.begin(), again.end());
                break;
            }
            default:
                input.insert(at, static_cast<uint8_t>(random()));
        }
    }
    input.resize(std::min(input.size(), LONGEST));
    return input;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: %s RUNS PATH...\n", argv[0]);
        return 2;
    }
    finding = std::string(argv[0]) + ".finding";
    __sanitizer_set_death_callback(write_finding);
    std::vector<std::filesystem::path> paths;
    for (int i = 2; i < argc; ++i) {
        if (std::filesystem::is_directory(argv[i]))
            std::copy(std::filesystem::directory_iterator(argv[i]), {}, std::back_inserter(paths));
        else
            paths.emplace_back(argv[i]);
    }
    std::sort(paths.begin(), paths.end());
    std::vector<Bytes> corpus;
    for (const auto& path : paths) {
        std::ifstream file(path, std::ios::binary);
        corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
        run(corpus.back());
    }
    if (corpus.empty()) corpus.emplace_back();
    std::mt19937 random(1);
    const long runs = std::atol(argv[1]);
    for (long i = 0; i < runs; ++i) run(mutated(random, corpus[random() % corpus.size()]));
    std::printf("%zu inputs, %ld mutations\n", paths.size(), runs);
}
