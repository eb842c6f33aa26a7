// The words of CUDA that the kernels use, on a CPU: every thread of a block is a fibre, blocks run one after another.
//
// A fibre runs until it waits. Threads, warps and blocks take turns in an order drawn from a seed: what the kernels compute
// must not depend on it. A block in which all wait and none can go on is an error, as is a write behind the shared memory.
#pragma once

#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#define __global__
#define __device__
#define __shared__
#define __launch_bounds__(threads)

struct Index {
    unsigned x;
};
inline Index threadIdx, blockIdx, blockDim, gridDim;

constexpr int SHARED_INTS = 1 << 15, POISON = 0x5ca1ab1e;
extern "C" {
alignas(16) int shared[SHARED_INTS];
}

namespace on_cpu {

enum Outcome { DONE = 0, STUCK = 1, SHARED_OVERRUN = 2, WRONG_ARGUMENTS = 3 };

struct Barrier {
    unsigned waiting = 0, passed = 0;
};

struct Warp {
    Barrier barrier;
    std::array<unsigned long long, 32> deposit;
};

struct Fibre {
    ucontext_t context;
    std::vector<char> stack = std::vector<char>(32 << 10);
    bool finished = false;
};

inline ucontext_t scheduler;
inline std::vector<Fibre> fibres;
inline std::vector<Warp> warps;
inline Barrier block;
inline std::function<void()> body;
inline bool progress;

inline void wait(Barrier& barrier, unsigned members) {
    const unsigned passed = barrier.passed, self = threadIdx.x;
    if (++barrier.waiting == members) {
        barrier.waiting = 0;
        ++barrier.passed;
        progress = true;
    }
    while (barrier.passed == passed) swapcontext(&fibres[self].context, &scheduler);
}

inline Warp& warp() { return warps[threadIdx.x / 32]; }

// What all lanes of the warp bring to one place.
template <class T>
std::array<T, 32> gather(T value) {
    std::memcpy(&warp().deposit[threadIdx.x % 32], &value, sizeof value);
    wait(warp().barrier, 32);
    std::array<T, 32> all;
    for (int lane = 0; lane < 32; ++lane) std::memcpy(&all[lane], &warp().deposit[lane], sizeof value);
    wait(warp().barrier, 32);
    return all;
}

inline void start() {
    body();
    fibres[threadIdx.x].finished = progress = true;
    swapcontext(&fibres[threadIdx.x].context, &scheduler);
}

inline Outcome run_block(const std::vector<unsigned>& turns, std::mt19937& random) {
    std::fill(std::begin(shared), std::end(shared), POISON);
    block = {};
    warps.assign(turns.size() / 32, {});
    for (Fibre& fibre : fibres) {
        fibre.finished = false;
        getcontext(&fibre.context);
        fibre.context.uc_stack.ss_sp = fibre.stack.data();
        fibre.context.uc_stack.ss_size = fibre.stack.size();
        makecontext(&fibre.context, start, 0);
    }
    bool all = false;
    do {
        // Half of the warps are held back, so that the others get far ahead; none when that led nowhere.
        const unsigned ready = all ? ~0u : random();
        progress = false;
        for (unsigned thread : turns) {
            if (fibres[thread].finished || !(ready >> thread / 32 & 1)) continue;
            threadIdx.x = thread;
            swapcontext(&scheduler, &fibres[thread].context);
        }
        all = !progress && !all;
    } while (progress || all);
    return std::all_of(fibres.begin(), fibres.end(), [](const Fibre& f) { return f.finished; }) ? DONE : STUCK;
}

inline std::vector<unsigned> shuffled(unsigned count, std::mt19937& random) {
    std::vector<unsigned> numbers(count);
    for (unsigned i = 0; i < count; ++i) numbers[i] = i;
    std::shuffle(numbers.begin(), numbers.end(), random);
    return numbers;
}

// `arguments` points to the value of every argument, as cuLaunchKernel has it, and `sizes` says how many bytes each has.
template <class... A, std::size_t... I>
Outcome launch(void (*kernel)(A...), std::index_sequence<I...>, unsigned grid, unsigned threads, unsigned shared_bytes,
               unsigned seed, void** arguments, const std::size_t* sizes, unsigned count) {
    const std::size_t expected[] = {sizeof(A)...};
    if (count != sizeof...(A) || !std::equal(sizes, sizes + count, expected)) return WRONG_ARGUMENTS;
    body = [=] { kernel(*static_cast<A*>(arguments[I])...); };
    gridDim.x = grid;
    blockDim.x = threads;
    fibres.resize(threads);
    std::mt19937 random(seed);
    for (unsigned number : shuffled(grid, random)) {
        blockIdx.x = number;
        if (run_block(shuffled(threads, random), random) != DONE) return STUCK;
        const auto overrun = [](int word) { return word != POISON; };
        if (std::any_of(shared + (shared_bytes + 3) / 4, std::end(shared), overrun)) return SHARED_OVERRUN;
    }
    return DONE;
}

template <class... A>
std::index_sequence_for<A...> indices_of(void (*)(A...)) {
    return {};
}

}  // namespace on_cpu

#define EXPORT(kernel)                                                                                             \
    extern "C" int run_##kernel(unsigned grid, unsigned threads, unsigned shared_bytes, unsigned seed, void** args, \
                                const std::size_t* sizes, unsigned count) {                                         \
        return on_cpu::launch(kernel, on_cpu::indices_of(kernel), grid, threads, shared_bytes, seed, args, sizes,   \
                              count);                                                                               \
    }

inline void __syncthreads() { on_cpu::wait(on_cpu::block, blockDim.x); }
inline void __syncwarp() { on_cpu::wait(on_cpu::warp().barrier, 32); }
inline int __popc(unsigned bits) { return __builtin_popcount(bits); }
inline int atomicAdd(int* place, int value) { return std::exchange(*place, *place + value); }
inline unsigned __float_as_uint(float number) {
    unsigned bits;
    std::memcpy(&bits, &number, sizeof bits);
    return bits;
}
inline float __uint_as_float(unsigned bits) {
    float number;
    std::memcpy(&number, &bits, sizeof number);
    return number;
}
// Collectives of whole warps only.
inline unsigned __match_any_sync(unsigned, int value) {
    const auto all = on_cpu::gather(value);
    unsigned equal = 0;
    for (int lane = 0; lane < 32; ++lane) equal |= unsigned(all[lane] == value) << lane;
    return equal;
}
template <class T>
T __shfl_up_sync(unsigned, T value, int distance) {
    const int lane = threadIdx.x % 32;
    return on_cpu::gather(value)[lane < distance ? lane : lane - distance];
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
    return on_cpu::gather(value)[(threadIdx.x % 32) ^ mask];
}
