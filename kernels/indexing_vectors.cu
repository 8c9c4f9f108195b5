// SPDX-License-Identifier: GPL-3.0-or-later
// Indexing trials, first part: which frames are tried, their usable peaks, and the vectors that an attempt looks at.
//
//   list_tasks       next attempts     -> one slot for each frame that still has one
//   take_peaks       peaks as found    -> those that can be used, in an order that does not depend on how they came
//   select_vectors   usable peaks      -> peaks, or the shortest differences of peaks, for the scan and for the turn
//
// Twin: gpuidx/backends/cpu/vectors.py.  See indexing.cuh for the records and for what "slot" means.
#include "indexing_peaks.cuh"
#include "select.cuh"

#define LIST_THREADS 256
#define TAKE_THREADS 256
#define VECTOR_THREADS 256
// Blocks on a multiprocessor at a time: without a number some versions of NVRTC save registers and spill.
#define TAKE_BLOCKS 4
#define VECTOR_BLOCKS 4
#define PART_PEAKS 96        // lowest peaks whose pairs give a first limit, where there are twice as many

static_assert(MAX_PEAKS <= 1 << NUMBER_BITS && (MAX_PEAKS & (MAX_PEAKS - 1)) == 0, "a power of two that fits");
static_assert(VECTOR_THREADS == SELECT_THREADS && SCAN_VECTORS <= SELECT_MOST && TURN_VECTORS <= SELECT_MOST, "room");

// One block: the frames whose next attempt is not negative, in order.
// Memory: 4 bytes read a frame; 32 bytes of shared memory.
extern "C" __global__ void __launch_bounds__(LIST_THREADS)
list_tasks(const int* __restrict__ next_attempt,      // (frame)
           const Attempt* __restrict__ plan,          // (attempt)
           Task* __restrict__ tasks,                  // (slot)
           int* __restrict__ n_task,                  // (1)
           int n_frame)
{
    __shared__ int warp_total[LIST_THREADS / 32];
    int found = 0;
    for (int first = 0; first < n_frame; first += LIST_THREADS) {
        const int frame = first + threadIdx.x, number = frame < n_frame ? next_attempt[frame] : -1;
        int total;
        const int at = found + prefix_sum(number >= 0, warp_total, &total);
        if (number >= 0) {
            const Attempt attempt = plan[number];
            Task task;
            task.frame = frame;
            task.anchor = attempt.anchor;
            task.kind = attempt.kind;
            task.number = number;
            tasks[at] = task;
        }
        found += total;
    }
    if (threadIdx.x == 0) *n_task = found;
}

// One block a slot whose attempt begins a trial: the peaks that are finite, not zero and not excluded, sorted.
// Memory: 25 bytes a peak read, 16 written; 32 kB of shared memory for MAX_PEAKS 2048.
extern "C" __global__ void __launch_bounds__(TAKE_THREADS, TAKE_BLOCKS)
take_peaks(const Task* __restrict__ tasks, const int* __restrict__ n_task, const Attempt* __restrict__ plan,
           const double* __restrict__ q,              // (frame, MAX_PEAKS, xyz), in the order of the search; 1/angstrom
           const int* __restrict__ n_used,            // (frame): the first so many are used
           const unsigned char* __restrict__ excluded,    // (frame, MAX_PEAKS): not 0 if not
           float4* __restrict__ peaks,                // (frame, MAX_PEAKS): x y z length
           int* __restrict__ n_peak,                  // (frame)
           float* __restrict__ farthest)              // (frame): greatest length, or 0
{
    __shared__ float4 kept[MAX_PEAKS];
    __shared__ int warp_total[TAKE_THREADS / 32];
    const int slot = blockIdx.x;
    if (slot >= *n_task) return;
    const Task task = tasks[slot];
    if (!plan[task.number].begins) return;
    const long long start = (long long)task.frame * MAX_PEAKS;
    const int n_given = min(n_used[task.frame], MAX_PEAKS);
    const int n = usable_peaks(q + 3 * start, n_given, [&](int i) { return excluded[start + i] != 0; }, kept, warp_total);
    for (int i = threadIdx.x; i < n; i += TAKE_THREADS) peaks[start + i] = kept[i];
    if (threadIdx.x == 0) {
        n_peak[task.frame] = n;
        farthest[task.frame] = n > 0 ? kept[n - 1].w : 0.0f;
    }
}

// Lowest level with `need` vectors, or else with all that the highest level has.  count(limit): vectors that are
// shorter.
template <class Count>
__device__ __forceinline__ int lowest_level(const float* limits, int n_level, int need, const Count& count)
{
    need = min(need, count(limits[n_level - 1]));
    int level = 0;
    while (count(limits[level]) < need) level++;
    return level;
}

// Peaks from the length `shortest` on, for the lowest level that has enough of them; gives their number.
__device__ __forceinline__ int direct_vectors(const float4* __restrict__ peaks, int n, float shortest, const float* limits,
                                              int n_level, int need, int most, float4* __restrict__ vectors, int* level)
{
    const int begin = count_shorter(peaks, n, shortest);
    const auto count = [&](float limit) { return max(count_shorter(peaks, n, limit) - begin, 0); };
    *level = lowest_level(limits, n_level, need, count);
    const int n_vector = min(count(limits[*level]), most);
    if (threadIdx.x < n_vector) {
        const float4 peak = peaks[begin + threadIdx.x];
        vectors[threadIdx.x] = make_float4(peak.x, peak.y, peak.z, 1.0f);
    }
    return n_vector;
}

// The pairs of a length from `shortest` to below `longest`, as `select_smallest` wants them: key (square of the length,
// numbers of the two peaks), a peak by itself as a pair of the two same.
//
// A warp takes a peak and goes down the list of those before it; it stops where the lengths of the two differ by more
// than any vector that is still wanted may have.
struct PairKeys {
    const float4* peaks;
    int n;
    float least;                                      // square
    unsigned int last;                                // greatest square below longest's, in the order of positive floats

    template <class Visit>
    __device__ __forceinline__ void operator()(bool part, unsigned int highest, const Visit& visit) const
    {
        const int n_look = !part ? n : n > 2 * PART_PEAKS ? PART_PEAKS : 0;
        const unsigned int greatest = min(highest, last);
        const float reach = 1.001f * __fsqrt_rn(__uint_as_float(greatest));       // more than rounding takes away
        for (int i = threadIdx.x >> 5; i < n_look; i += VECTOR_THREADS / 32)
            for (int from = i; from >= 0; from -= 32) {
                if (peaks[i].w - peaks[from].w > reach) break;
                const int j = from - (threadIdx.x & 31);
                if (j < 0) continue;
                const float square = pair_of(peaks, i, j).w;
                if (square >= least && __float_as_uint(square) <= greatest)
                    visit(__float_as_uint(square), (unsigned int)(i << NUMBER_BITS | j));
            }
    }
};

// The `most` shortest differences of two peaks, and peaks (pairs with the origin), of a length from `shortest` to
// below `longest`; of them those for the lowest level that has enough.  Gives their number.
__device__ __forceinline__ int pair_vectors(const float4* __restrict__ peaks, int n, float shortest, float longest,
                                            const float* limits, int n_level, int need, int most, Selection* selection,
                                            float4* __restrict__ vectors, int* level)
{
    longest = fminf(longest, limits[n_level - 1]);
    const PairKeys each = {peaks, n, __fmul_rn(shortest, shortest), __float_as_uint(__fmul_rn(longest, longest)) - 1u};
    const int found = select_smallest(each, most, selection);
    const auto count = [&](float limit) {
        const unsigned int bits = __float_as_uint(__fmul_rn(limit, limit));
        int below = 0;
        for (int above = found; above > below;) {
            const int middle = (below + above) >> 1;
            if ((unsigned int)(selection->keys[middle] >> 32) < bits) below = middle + 1;
            else above = middle;
        }
        return below;
    };
    *level = lowest_level(limits, n_level, need, count);
    const int n_vector = count(limits[*level]);
    if (threadIdx.x < n_vector) vectors[threadIdx.x] = pair_of_key(peaks, selection->keys[threadIdx.x]);
    return n_vector;
}

// One block a slot: vectors of the scan and of the turn, shortest first.
// Memory: the peaks come from the caches, again and again for pairs; 10 kB of shared memory.
extern "C" __global__ void __launch_bounds__(VECTOR_THREADS, VECTOR_BLOCKS)
select_vectors(const Task* __restrict__ tasks, const int* __restrict__ n_task,
               const Anchor* __restrict__ anchors,    // (anchor)
               const float4* __restrict__ peaks, const int* __restrict__ n_peak,
               float4* __restrict__ scan_vectors,     // (slot, SCAN_VECTORS): x y z weight
               float4* __restrict__ turn_vectors,     // (slot, TURN_VECTORS)
               VectorSets* __restrict__ sets)         // (slot): no vectors if there are too few of them or of peaks
{
    __shared__ Selection selection;
    const int slot = blockIdx.x;
    if (slot >= *n_task) return;
    const Task task = tasks[slot];
    const Anchor* anchor = anchors + task.anchor;
    const float4* own = peaks + (long long)task.frame * MAX_PEAKS;
    float4* for_scan = scan_vectors + slot * SCAN_VECTORS;
    float4* for_turn = turn_vectors + slot * TURN_VECTORS;
    const int n = n_peak[task.frame];
    VectorSets set = {0, 0, 0, 0};
    if (n >= FEWEST_PEAKS) {
        if (task.kind == DIRECT) {
            set.n_scan = direct_vectors(own, n, anchor->scan_shortest, anchor->scan_limit, N_SCAN_LEVELS, SCAN_NEED_0,
                                        SCAN_MOST_0, for_scan, &set.scan_level);
            set.n_turn = direct_vectors(own, n, 0.0f, anchor->turn_limit, N_TURN_LEVELS, TURN_NEED_0, TURN_MOST_0,
                                        for_turn, &set.turn_level);
        } else {
            const float low = anchor->pair_shortest, high = anchor->pair_longest;
            set.n_scan = pair_vectors(own, n, fmaxf(low, anchor->scan_shortest), high, anchor->scan_limit, N_SCAN_LEVELS,
                                      SCAN_NEED_1, SCAN_MOST_1, &selection, for_scan, &set.scan_level);
            set.n_turn = pair_vectors(own, n, low, high, anchor->turn_limit, N_TURN_LEVELS, TURN_NEED_1, TURN_MOST_1,
                                      &selection, for_turn, &set.turn_level);
        }
    }
    if (set.n_scan < FEWEST_VECTORS || set.n_turn < FEWEST_VECTORS) set.n_scan = set.n_turn = 0;
    if (threadIdx.x == 0) sets[slot] = set;
}
