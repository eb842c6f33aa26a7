// The top-k softmax router, one warp for every token.

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;

// Larger for the larger logit, and of equal logits for the lower index. NaN is above all numbers, as torch sorts it, and
// both zeros are equal. Keys are neither 0 nor all ones, and no two of a token are equal.
__device__ unsigned long long key_of(float logit, int index) {
    unsigned bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);
    if (logit != logit)
        bits = 0xfffffffeu;
    else
        bits = bits & 0x80000000u ? ~bits : bits | 0x80000000u;
    return (unsigned long long)bits << 32 | (0xffffffffu - (unsigned)index);
}

// The largest finite number in place of infinity: an expert with one has all of the weight, or an even part of it.
__device__ float finite(float logit) {
    constexpr float LARGEST = 3.40282347e38f;
    return logit > LARGEST ? LARGEST : logit < -LARGEST ? -LARGEST : logit;
}

// ids and gates (tokens, chosen) from logits (tokens, experts), experts of a token in falling order of their logits. The
// gates are divided by their sum when `renormalise` is not 0, and by the sum over all experts otherwise.
extern "C" __global__ void __launch_bounds__(128)
    topk_softmax(const float* logits, long long tokens, int experts, int chosen, int renormalise, int* ids,
                 float* gates) {
    const int lane = threadIdx.x % WARP;
    const long long token = (long long)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (token >= tokens) return;
    const float* const row = logits + token * experts;
    int* const id = ids + token * chosen;
    float* const gate = gates + token * chosen;

    unsigned long long last = ~0ull;
    float top = 0.0f, total = 0.0f;
    for (int k = 0; k < chosen; ++k) {
        unsigned long long best = 0;
        for (int e = lane; e < experts; e += WARP) {
            const unsigned long long key = key_of(row[e], e);
            if (key < last && key > best) best = key;
        }
        for (int distance = WARP / 2; distance > 0; distance /= 2) {
            const unsigned long long other = __shfl_xor_sync(ALL_LANES, best, distance);
            if (other > best) best = other;
        }
        last = best;
        const int expert = (int)(0xffffffffu - (unsigned)best);
        const float logit = finite(row[expert]);
        if (k == 0) top = logit;
        const float weight = expf(logit - top);
        total += weight;
        if (lane == k % WARP) {
            id[k] = expert;
            gate[k] = weight;
        }
    }

    if (!renormalise) {
        total = 0.0f;
        for (int e = lane; e < experts; e += WARP) total += expf(finite(row[e]) - top);
        for (int distance = WARP / 2; distance > 0; distance /= 2)
            total += __shfl_xor_sync(ALL_LANES, total, distance);
    }
    for (int k = lane; k < chosen; k += WARP) gate[k] /= total; // written by the same lane
}
