// Routes in expert order: a stable counting sort in two launches, or in one of a single block.
//
// The routes, in the order in which they are served, are cut into one segment for every block, and a segment into one
// part for every placing warp. `count_routes` leaves a histogram of every segment. In `place_routes` every block adds up
// the histograms by itself, so that no block waits for another, and puts its routes into their rows. A single block makes
// its histogram by itself, and `count_routes` is not launched.
//
// All results are integers, and each is written once: they do not depend on the order in which threads run.

constexpr int WARP = 32;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr int NONE = -1;
constexpr int SCHEDULES = 4;

__device__ int divide_up(int number, int divisor) { return number / divisor + (number % divisor != 0); }

__device__ long long least(long long a, long long b) { return a < b ? a : b; }

// Threads of the whole grid stride over rows and tiles.
__device__ long long thread_of_grid() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }

__device__ long long threads_of_grid() { return (long long)gridDim.x * blockDim.x; }

// The route that is served in a turn; without a service order that of the same number.
__device__ long long served(const int* service, long long turn) { return service ? service[turn] : turn; }

// The expert of a route, NONE when its id is not one of an expert.
__device__ int expert_of(const int* ids, long long route, int experts) {
    const int id = ids[route];
    return 0 <= id && id < experts ? id : NONE;
}

// Writes the sums of all earlier sizes to before[0 .. count), and returns the sum of all to every thread. For whole
// blocks; `scratch` has an entry for every warp.
template <class Size>
__device__ int sum_before(int count, Size size, int* before, int* scratch) {
    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP, warps = blockDim.x / WARP;
    int total = 0;
    for (int start = 0; start < count; start += blockDim.x) {
        const int entry = start + threadIdx.x;
        const int own = entry < count ? size(entry) : 0;
        int sum = own;
        for (int distance = 1; distance < WARP; distance *= 2) {
            const int below = __shfl_up_sync(ALL_LANES, sum, distance);
            if (lane >= distance) sum += below;
        }
        if (lane == WARP - 1) scratch[warp] = sum;
        __syncthreads();
        int chunk = 0;
        for (int other = 0; other < warps; ++other) {
            if (other < warp) sum += scratch[other];
            chunk += scratch[other];
        }
        if (entry < count) before[entry] = total + sum - own;
        total += chunk;
        __syncthreads();
    }
    return total;
}

// The last entry of first[0 .. count) that is at most `place`: who occupies it, if it is occupied at all.
__device__ int owner(const int* first, int count, long long place) {
    int low = 0, high = count;
    while (high - low > 1) {
        const int middle = low + (high - low) / 2;
        if (first[middle] <= place)
            low = middle;
        else
            high = middle;
    }
    return low;
}

// Leaves in counts[0 .. experts) how many routes of the turns start .. end go to every expert. For whole blocks.
__device__ void histogram(const int* ids, const int* service, long long start, long long end, int experts,
                          int* counts) {
    for (int e = threadIdx.x; e < experts; e += blockDim.x) counts[e] = 0;
    __syncthreads();
    for (long long turn = start + threadIdx.x; turn < end; turn += blockDim.x) {
        const int e = expert_of(ids, served(service, turn), experts);
        if (e != NONE) atomicAdd(&counts[e], 1);
    }
    __syncthreads();
}

// How many routes of the first segments go to an expert.
__device__ int routes_of(const int* partial, int segments, int experts, int e) {
    int sum = 0;
    for (int segment = 0; segment < segments; ++segment) sum += partial[(long long)segment * experts + e];
    return sum;
}

// partial (gridDim.x, experts): how many routes of every segment go to every expert. Shared: experts ints.
extern "C" __global__ void __launch_bounds__(512)
    count_routes(const int* ids, const int* service, long long routes, int experts, long long segment, int* partial) {
    extern __shared__ int shared[];
    const long long start = blockIdx.x * segment, end = least(start + segment, routes);
    histogram(ids, service, start, end, experts, shared);
    for (int e = threadIdx.x; e < experts; e += blockDim.x) partial[(long long)blockIdx.x * experts + e] = shared[e];
}

// `partial` as count_routes leaves it, or null in a single block. `capacity` rows for every expert, or when that is 0 its
// kept rows rounded up to `align`. `schedules` holds, for each of the four with rows, the experts and the blocks of its
// tiles and the first tiles (experts + 1), each of the three padded to 4 ints. `segment` is a multiple of warps * 32.
// Shared: (warps + 1) * experts + 32 ints.
extern "C" __global__ void __launch_bounds__(512)
    place_routes(const int* ids, const int* service, long long routes, int experts, long long segment,
                 const int* partial, int warps, int limit, int capacity, int align, int rows, int* counts, int* base,
                 int* route_at, int* slot, int* schedules, int rows_0, int tiles_0, int rows_1, int tiles_1, int rows_2,
                 int tiles_2, int rows_3, int tiles_3) {
    extern __shared__ int shared[];
    int* const first = shared;             // of every expert: its first tile, then its first row
    int* const cursors = shared + experts; // (warps, experts): how many routes came before, in the end
    int* const kept = cursors;             // of every expert, until its place is taken by cursors
    int* const scratch = cursors + warps * experts;

    if (partial)
        for (int e = threadIdx.x; e < experts; e += blockDim.x) kept[e] = routes_of(partial, gridDim.x, experts, e);
    else
        histogram(ids, service, 0, routes, experts, kept);
    for (int e = threadIdx.x; e < experts; e += blockDim.x) {
        kept[e] = (int)least(kept[e], limit);
        if (blockIdx.x == 0) counts[e] = kept[e];
    }
    __syncthreads();

    const int tile_rows[SCHEDULES] = {rows_0, rows_1, rows_2, rows_3};
    const int tiles[SCHEDULES] = {tiles_0, tiles_1, tiles_2, tiles_3};
    int* schedule = schedules;
    for (int s = 0; s < SCHEDULES && tile_rows[s]; ++s) {
        const long long length = ((long long)tiles[s] + 3) / 4 * 4;
        int* const expert_of_tile = schedule;
        int* const block_of_tile = schedule + length;
        int* const first_tile = schedule + 2 * length;
        const int used = sum_before(experts, [&](int e) { return divide_up(kept[e], tile_rows[s]); }, first, scratch);
        for (long long tile = thread_of_grid(); tile < tiles[s]; tile += threads_of_grid()) {
            const int e = owner(first, experts, tile);
            expert_of_tile[tile] = tile < used ? e : NONE;
            block_of_tile[tile] = tile < used ? (int)tile - first[e] : NONE;
        }
        if (blockIdx.x == 0) {
            for (int e = threadIdx.x; e < experts; e += blockDim.x) first_tile[e] = first[e];
            if (threadIdx.x == 0) first_tile[experts] = used;
        }
        schedule += 2 * length + (experts + 1 + 3) / 4 * 4;
        __syncthreads();
    }

    sum_before(experts, [&](int e) { return capacity ? capacity : divide_up(kept[e], align) * align; }, first, scratch);
    for (long long row = thread_of_grid(); row < rows; row += threads_of_grid()) {
        const int e = owner(first, experts, row);
        if (row - first[e] >= kept[e]) route_at[row] = NONE;
    }
    if (blockIdx.x == 0)
        for (int e = threadIdx.x; e < experts; e += blockDim.x) base[e] = first[e];
    __syncthreads();

    const int lane = threadIdx.x % WARP, warp = threadIdx.x / WARP;
    int* const cursor = cursors + warp * experts;
    const long long part = segment / warps;
    const long long start = blockIdx.x * segment + warp * part;
    const long long end = warp < warps ? least(start + part, routes) : start; // the other warps place nothing
    for (int entry = threadIdx.x; entry < warps * experts; entry += blockDim.x) cursors[entry] = 0;
    __syncthreads();
    for (long long turn = start + lane; turn < end; turn += WARP) {
        const int e = expert_of(ids, served(service, turn), experts);
        if (e != NONE) atomicAdd(&cursor[e], 1);
    }
    __syncthreads();
    for (int e = threadIdx.x; e < experts; e += blockDim.x) {
        int before = routes_of(partial, blockIdx.x, experts, e);
        for (int other = 0; other < warps; ++other) {
            const int own = cursors[other * experts + e];
            cursors[other * experts + e] = before;
            before += own;
        }
    }
    __syncthreads();

    for (long long step = start; step < end; step += WARP) {
        const long long turn = step + lane;
        const long long route = turn < end ? served(service, turn) : NONE;
        const int e = turn < end ? expert_of(ids, route, experts) : NONE;
        const unsigned peers = __match_any_sync(ALL_LANES, e);
        const int earlier = __popc(peers & ((1u << lane) - 1));
        const int place = e == NONE ? 0 : cursor[e] + earlier;
        __syncwarp();
        if (e != NONE && earlier == 0) cursor[e] += __popc(peers);
        __syncwarp();
        const bool keep = e != NONE && place < limit;
        const int row = keep ? first[e] + place : NONE;
        if (turn < end) slot[route] = row;
        if (keep) route_at[row] = (int)route;
    }
}
