// The routers that are a `TopkRule`, one warp for every token: experts and gates from logits, and the gradient back.
//
// Selection scores are computed in double and rounded: equal logits have equal scores, as in `topk_rule.py`.

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr float LARGEST = 3.40282347e38f;
constexpr int SOFTMAX = 0, SIGMOID = 1; // scores; the third one is the square root of softplus
constexpr double FAR = -30.0;           // below it softplus(z) is exp(z), and its logarithm z

using Rank = unsigned long long;
constexpr Rank TAKEN = 0;                        // below the rank of any number
constexpr unsigned LEAST_HEIGHT = 0x007fffffu;   // of minus infinity

extern __shared__ int shared[];

__device__ int lane_of_thread() { return threadIdx.x % WARP; }

template <class Number>
__device__ Number sum_of_warp(Number value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) value += __shfl_xor_sync(ALL_LANES, value, distance);
    return value;
}

__device__ float largest_of_warp(float value) {
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const float other = __shfl_xor_sync(ALL_LANES, value, distance);
        if (other > value) value = other;
    }
    return value;
}

// Larger for the larger number, and never 0. NaN is above all numbers, as torch sorts it, and both zeros are equal.
__device__ unsigned height_of(float number) {
    if (number != number) return 0xfffffffeu;
    const unsigned bits = __float_as_uint(number == 0.0f ? 0.0f : number);
    return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}

__device__ float number_of(unsigned height) {
    return __uint_as_float(height & 0x80000000u ? height & 0x7fffffffu : ~height);
}

// The order of choices: by the key, then by the logit. Of equal ranks the lower index comes first.
__device__ Rank rank_of(unsigned key_height, unsigned logit_height) { return (Rank)key_height << 32 | logit_height; }

// Takes the largest of ranks[0 .. count): returns its index to the whole warp and marks it. A lane reads and writes the
// ranks of one remainder only.
__device__ int take_largest(Rank* ranks, int count) {
    const int lane = lane_of_thread();
    Rank best = TAKEN;
    int index = lane;
    for (int i = lane; i < count; i += WARP) {
        if (ranks[i] > best) {
            best = ranks[i];
            index = i;
        }
    }
    for (int distance = WARP / 2; distance > 0; distance /= 2) {
        const Rank other = __shfl_xor_sync(ALL_LANES, best, distance);
        const int its_index = __shfl_xor_sync(ALL_LANES, index, distance);
        if (other > best || (other == best && its_index < index)) {
            best = other;
            index = its_index;
        }
    }
    if (index % WARP == lane) ranks[index] = TAKEN;
    return index;
}

// The sum of the `best` largest keys of a group. Lanes that each read one group start at different places of it, which
// are in different banks of the shared memory.
__device__ float sum_of_best(const Rank* group, int size, int best) {
    float sum = 0.0f;
    Rank last = ~(Rank)0;
    int last_index = -1;
    for (int n = 0; n < best; ++n) {
        Rank largest = TAKEN;
        int index = 0, i = lane_of_thread() % size;
        for (int step = 0; step < size; ++step) {
            const Rank rank = group[i];
            const bool after_last = rank < last || (rank == last && i > last_index);
            if (after_last && (rank > largest || (rank == largest && i < index))) {
                largest = rank;
                index = i;
            }
            if (++i == size) i = 0;
        }
        sum += number_of((unsigned)(largest >> 32));
        last = largest;
        last_index = index;
    }
    return sum;
}

// The largest finite number in place of infinity: an expert with one has all of the weight, or an even part of it.
__device__ float finite(float logit) { return logit > LARGEST ? LARGEST : logit < -LARGEST ? -LARGEST : logit; }

__device__ double softplus(double z) { return z > 0.0 ? z + log1p(exp(-z)) : log1p(exp(z)); }

__device__ double logistic(double z) { return 1.0 / (1.0 + exp(-z)); }

// The logarithm of a score that is no softmax over all experts; of a softmax over the chosen, the logit.
__device__ double log_score(int score, double z) {
    if (score == SOFTMAX) return z;
    if (score == SIGMOID) return -softplus(-z);
    return (z < FAR ? z : log(softplus(z))) / 2.0;
}

__device__ double slope_of_log_score(int score, double z) {
    if (score == SOFTMAX) return 1.0;
    if (score == SIGMOID) return logistic(-z);
    return z < FAR ? 0.5 : 0.5 * logistic(z) / softplus(z);
}

// The largest of row[0 .. columns), finite.
__device__ float top_of_row(const float* row, int columns) {
    float top = -LARGEST;
    for (int e = lane_of_thread(); e < columns; e += WARP) top = row[e] > top ? row[e] : top;
    return finite(largest_of_warp(top));
}

// Scores in units of `unit`, the largest one's: they divide a score by Σ of the scores of the chosen and the shared.
struct Share {
    double log_unit, sum;

    __device__ double of(int score, float logit) const { return exp(log_score(score, finite(logit)) - log_unit) / sum; }
};

__device__ Share share_of(int score, const float* row, const int* ids, int chosen, int experts, int columns) {
    const int lane = lane_of_thread();
    float top = -LARGEST;
    for (int k = lane; k < chosen; k += WARP) top = row[ids[k]] > top ? row[ids[k]] : top;
    for (int e = experts + lane; e < columns; e += WARP) top = row[e] > top ? row[e] : top;
    Share share = {log_score(score, finite(largest_of_warp(top))), 1.0};
    double sum = 0.0; // scores rise with the logit
    for (int k = lane; k < chosen; k += WARP) sum += share.of(score, row[ids[k]]);
    for (int e = experts + lane; e < columns; e += WARP) sum += share.of(score, row[e]);
    share.sum = sum_of_warp(sum);
    return share;
}

// ids and gates (tokens, chosen) from logits (tokens, columns), of which the last columns - experts are of shared
// experts. `by_scores` says that scores, not logits, are compared; `bias` may be null. Shared memory has room for
// `experts` + `groups` ranks for each warp.
extern "C" __global__ void __launch_bounds__(128)
    choose_experts(const float* logits, const float* bias, long long tokens, int columns, int experts, int chosen,
                   int score, int by_scores, int groups, int top_groups, int group_best, int renormalise, double scale,
                   int* ids, float* gates) {
    const int lane = lane_of_thread(), warp = threadIdx.x / WARP;
    const long long token = (long long)blockIdx.x * (blockDim.x / WARP) + warp;
    if (token >= tokens) return;
    const float* const row = logits + token * columns;
    int* const id = ids + token * chosen;
    float* const gate = gates + token * chosen;
    Rank* const ranks = (Rank*)shared + (long long)warp * (experts + groups);
    Rank* const group_ranks = ranks + experts;

    double top = 0.0, total = 1.0;
    if (by_scores && score == SOFTMAX) {
        top = top_of_row(row, experts);
        double sum = 0.0;
        for (int e = lane; e < experts; e += WARP) sum += exp(finite(row[e]) - top);
        total = sum_of_warp(sum);
    }
    for (int e = lane; e < experts; e += WARP) {
        const float logit = row[e];
        const double z = finite(logit);
        float key = logit;
        if (by_scores)
            key = score == SOFTMAX ? exp(z - top) / total : score == SIGMOID ? logistic(z) : sqrt(softplus(z));
        if (bias) key += bias[e];
        if (logit < -LARGEST) key = logit;
        ranks[e] = rank_of(height_of(key), height_of(logit));
    }

    if (groups > 1) {
        __syncwarp();
        const int size = experts / groups;
        for (int g = lane; g < groups; g += WARP)
            group_ranks[g] = rank_of(height_of(sum_of_best(ranks + g * size, size, group_best)), 0);
        __syncwarp();
        for (int n = 0; n < top_groups; ++n) take_largest(group_ranks, groups);
        __syncwarp();
        for (int e = lane; e < experts; e += WARP) {
            const unsigned key_height = ranks[e] >> 32, logit_height = (unsigned)ranks[e];
            if (group_ranks[e / size] != TAKEN)
                ranks[e] = rank_of(LEAST_HEIGHT, logit_height);
            else if (key_height == LEAST_HEIGHT) // still before all of the groups that are left out
                ranks[e] = rank_of(height_of(-LARGEST), logit_height);
        }
    }

    for (int k = 0; k < chosen; ++k) {
        const int expert = take_largest(ranks, experts);
        if (lane == k % WARP) id[k] = expert;
    }
    __syncwarp();

    if (score == SOFTMAX && !renormalise) {
        const float highest = top_of_row(row, columns);
        float sum = 0.0f;
        for (int e = lane; e < columns; e += WARP) sum += expf(finite(row[e]) - highest);
        sum = sum_of_warp(sum);
        for (int k = lane; k < chosen; k += WARP) gate[k] = expf(finite(row[id[k]]) - highest) / sum * (float)scale;
    } else if (renormalise) {
        const Share share = share_of(score, row, id, chosen, experts, columns);
        for (int k = lane; k < chosen; k += WARP) gate[k] = share.of(score, row[id[k]]) * scale;
    } else {
        for (int k = lane; k < chosen; k += WARP) gate[k] = exp(log_score(score, finite(row[id[k]]))) * scale;
    }
}

// dlogits (tokens, columns) from dgates, with what `choose_experts` was given and found.
extern "C" __global__ void __launch_bounds__(128)
    differentiate_gates(const float* logits, long long tokens, int columns, int experts, int chosen, int score,
                        int renormalise, double scale, const int* ids, const float* gates, const float* dgates,
                        float* dlogits) {
    const int lane = lane_of_thread();
    const long long token = (long long)blockIdx.x * (blockDim.x / WARP) + threadIdx.x / WARP;
    if (token >= tokens) return;
    const float* const row = logits + token * columns;
    const int* const id = ids + token * chosen;
    const float *const gate = gates + token * chosen, *const dgate = dgates + token * chosen;
    float* const drow = dlogits + token * columns;

    double total = 0.0; // Σ g dg, of which every share of the denominator takes its part
    for (int k = lane; k < chosen; k += WARP) total += (double)gate[k] * dgate[k];
    total = sum_of_warp(total);
    const bool of_all = score == SOFTMAX && !renormalise;
    const float highest = of_all ? top_of_row(row, columns) : 0.0f;
    float sum = 1.0f;
    if (of_all) {
        sum = 0.0f;
        for (int e = lane; e < columns; e += WARP) sum += expf(finite(row[e]) - highest);
        sum = sum_of_warp(sum);
    }
    Share share = {};
    if (renormalise) share = share_of(score, row, id, chosen, experts, columns);
    for (int e = lane; e < columns; e += WARP) {
        double taken = 0.0;
        if (of_all)
            taken = expf(finite(row[e]) - highest) / sum * total;
        else if (renormalise && e >= experts)
            taken = share.of(score, row[e]) * total * slope_of_log_score(score, finite(row[e]));
        drow[e] = finite(row[e]) == row[e] ? -taken : 0.0;
    }
    __syncwarp();
    for (int k = lane; k < chosen; k += WARP) {
        const float logit = row[id[k]];
        if (finite(logit) != logit) continue; // an infinite logit does not move
        const double given = (double)gate[k] * dgate[k] - (renormalise ? gate[k] / scale * total : 0.0);
        drow[id[k]] += given * slope_of_log_score(score, logit);
    }
}
