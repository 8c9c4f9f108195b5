// SPDX-License-Identifier: GPL-3.0-or-later
// Indexing without a cell, first part: the peaks of each try, and the vectors of each band of lengths.
//
//   take_lists     peaks as found    -> those that can be used, for every try; lengths of axes to look for
//   fill_bands     usable peaks      -> peaks, or the shortest differences of peaks, for each band
//
// See indexing_axes.cuh for what "list", "slot" and "band" mean.
#include "indexing_axes.cuh"
#include "indexing_peaks.cuh"
#include "keep_smallest.cuh"

#define TAKE_THREADS 256
#define FILL_THREADS 256
// Blocks on a multiprocessor at a time: without a number some versions of NVRTC save registers and spill.
#define TAKE_BLOCKS 4
#define FILL_BLOCKS 4
#define MOST_LENGTHS 1024    // sampled in a band; only senseless peaks need more

static_assert(MOST_PEAKS_UNKNOWN <= MAX_PEAKS && MAX_PEAKS <= 1 << NUMBER_BITS, "numbers fit");
static_assert((MOST_PEAKS_UNKNOWN & (MOST_PEAKS_UNKNOWN - 1)) == 0, "a power of two");
static_assert(MOST_PEAKS_UNKNOWN + BAND_MOST <= BUFFER_KEYS, "pairs of a peak fit");

// One block a list: the first peaks of the search, fewer for each further try, those that can be used of them sorted.
// shortest, longest: of axes; angstrom.  A shortest of 0 stands for what the peaks can tell.
// Grid (frames * n_try).  Memory: 24 bytes a peak read, 16 written; 8 kB of shared memory.
extern "C" __global__ void __launch_bounds__(TAKE_THREADS, TAKE_BLOCKS)
take_lists(const double* __restrict__ q,              // (frame, MAX_PEAKS, xyz), strongest first; 1/angstrom
           const int* __restrict__ n_given,           // (frame)
           PeakSet* __restrict__ lists,               // (list)
           float4* __restrict__ list_peaks,           // (list, MOST_PEAKS_UNKNOWN): x y z length
           int n_try, int min_peaks, float shortest, float longest, int most_bands)
{
    __shared__ float4 kept[MOST_PEAKS_UNKNOWN];
    __shared__ int warp_total[TAKE_THREADS / 32];
    __shared__ unsigned int highest;
    const int list = blockIdx.x, frame = list / n_try;
    int n_used = n_given[frame] >= min_peaks ? min(n_given[frame], MOST_PEAKS_UNKNOWN) : 0;
    for (int left = list - frame * n_try; left > 0; left--) {
        n_used -= n_used / RETRY_SHARE_UNKNOWN;
        if (n_used < FEWEST_PEAKS_RETRY) n_used = 0;
    }
    if (threadIdx.x == 0) highest = 0;
    const long long start = (long long)frame * MAX_PEAKS;
    const int n = usable_peaks(q + 3 * start, n_used, [](int) { return false; }, kept, warp_total);
    for (int i = threadIdx.x; i < n; i += TAKE_THREADS) {
        list_peaks[list * MOST_PEAKS_UNKNOWN + i] = kept[i];
        // positive floats have the order of their bits; the highest does not depend on the order
        atomicMax(&highest, __float_as_uint(fabsf(kept[i].z)));
    }
    __syncthreads();
    if (threadIdx.x) return;
    if (shortest == 0.0f) shortest = fmaxf(SHORTEST_AXIS, __fdiv_rn(FEWEST_CYCLES, __uint_as_float(highest)));
    int n_band = 0;
    if (n >= FEWEST_PEAKS)
        for (float low = shortest; low < longest && n_band < most_bands; low = __fmul_rn(low, BAND)) n_band++;
    PeakSet set;
    set.n_peak = n;
    set.n_band = n_band;
    set.shortest = shortest;
    set.longest = longest;
    set.farthest = n > 0 ? kept[n - 1].w : 0.0f;
    lists[list] = set;
}

__device__ __forceinline__ float scan_cycles(int level)
{
    return level == 0 ? SCAN_CYCLES_0 : level == 1 ? SCAN_CYCLES_1 : level == 2 ? SCAN_CYCLES_2 : SCAN_CYCLES_3;
}

// Peaks for a band: those from `least` to `limit`, or more where that is too few.  Gives their number.
__device__ __forceinline__ int direct_band(const float4* __restrict__ peaks, int n, float least, float limit,
                                           float4* __restrict__ vectors)
{
    const int begin = count_shorter(peaks, n, least);
    const int end = max(count_shorter(peaks, n, limit), begin + BAND_NEED_0);
    const int n_vector = max(min(end, min(begin + BAND_MOST, n)) - begin, 0);
#pragma unroll 1
    for (int i = threadIdx.x; i < n_vector; i += FILL_THREADS) {
        const float4 peak = peaks[begin + i];
        vectors[i] = make_float4(peak.x, peak.y, peak.z, 1.0f);
    }
    return n_vector;
}

// The same with differences of two peaks, and peaks, the shortest.
__device__ __forceinline__ int pair_band(const float4* __restrict__ peaks, int n, float least, float limit, KeyBuffer* buffer,
                                         float4* __restrict__ vectors)
{
    const float square_least = __fmul_rn(least, least), square_limit = __fmul_rn(limit, limit);
    begin_keys(buffer, ~0ull);
    int found = 0;
#pragma unroll 1
    for (int i = 0; i < n; i++) {
#pragma unroll 1
        for (int j = threadIdx.x; j <= i; j += FILL_THREADS) {
            const float square = pair_of(peaks, i, j).w;
            if (square >= square_least)
                offer(buffer, (unsigned long long)__float_as_uint(square) << 32 | (unsigned int)(i << NUMBER_BITS | j));
        }
        found = make_room(buffer, n, i == n - 1, BAND_MOST);
    }
    int n_vector = 0;
    for (int above = found; above > n_vector;) {
        const int middle = (n_vector + above) >> 1;
        if (__uint_as_float((unsigned int)(buffer->keys[middle] >> 32)) < square_limit) n_vector = middle + 1;
        else above = middle;
    }
    if (n_vector < BAND_NEED_1) n_vector = min(BAND_NEED_1, found);
#pragma unroll 1
    for (int i = threadIdx.x; i < n_vector; i += FILL_THREADS) vectors[i] = pair_of_key(peaks, buffer->keys[i]);
    return n_vector;
}

// One block a band of a slot: its vectors, shortest first.
// Grid (most_bands, slots).  Memory: the peaks come from the caches, all pairs of them; 16 kB of shared memory.
extern "C" __global__ void __launch_bounds__(FILL_THREADS, FILL_BLOCKS)
fill_bands(const PeakSet* __restrict__ lists, const float4* __restrict__ list_peaks,
           float4* __restrict__ band_vectors,         // (slot, band, BAND_MOST): x y z weight; 1/angstrom
           Band* __restrict__ bands)                  // (slot, band): nothing is written behind the list's last band
{
    __shared__ KeyBuffer buffer;
    const int band = blockIdx.x, slot = blockIdx.y, list = slot >> 1, most_bands = gridDim.x;
    const PeakSet set = lists[list];
    if (band >= set.n_band) return;
    const float4* peaks = list_peaks + list * MOST_PEAKS_UNKNOWN;
    float4* vectors = band_vectors + (long long)(slot * most_bands + band) * BAND_MOST;
    Band own;
    own.shortest = set.shortest;
#pragma unroll 1
    for (int k = 0; k < band; k++) own.shortest = __fmul_rn(own.shortest, BAND);
    own.longest = fminf(set.longest, __fmul_rn(own.shortest, BAND));
    const float least = __fdiv_rn(SHORTEST, own.shortest);
    if ((slot & 1) == DIRECT)
        own.n_vector = direct_band(peaks, set.n_peak, least, __fdiv_rn(scan_cycles(BAND_LEVEL_0), own.longest), vectors);
    else
        own.n_vector = pair_band(peaks, set.n_peak, least, __fdiv_rn(scan_cycles(BAND_LEVEL_1), own.longest), &buffer, vectors);
    __syncthreads();                                  // another thread has written the last one
    if (threadIdx.x) return;
    own.level = own.n_length = 0;
    if (own.n_vector < BAND_FEWEST)
        own.n_vector = 0;
    else {
        const float4 last = vectors[own.n_vector - 1];
        const float farthest = __fsqrt_rn(dot(last, last.x, last.y, last.z));
        const float n_length = ceilf(__fdiv_rn(__fmul_rn(__fsub_rn(own.longest, own.shortest), farthest), STEP));
        while (own.level < N_SCAN_LEVELS - 1 && scan_cycles(own.level) < __fmul_rn(farthest, own.longest)) own.level++;
        if (n_length <= (float)MOST_LENGTHS)          // false for NaN
            own.n_length = max(1, (int)n_length);
        else
            own.n_vector = TOO_LONG;
    }
    bands[slot * most_bands + band] = own;
}
