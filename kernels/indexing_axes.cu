// SPDX-License-Identifier: GPL-3.0-or-later
// Indexing without a cell, second part: vectors of the lattice among the directions and lengths of each band.
//
//   scan_bands     vectors of a band   -> the directions with the best scores, of all lengths that a block takes
//   choose_axes    those of all blocks -> the best of the band
//   refine_axes    the best            -> axes by least squares on peaks in a growing range, with scores
//   keep_axes      axes of all bands   -> the best of those that differ
//
// The score of a direction is that of indexing_directions.cu, with each sampled length in turn for L.
// See indexing_axes.cuh for what "list", "slot" and "band" mean.  Every float sum has one order: that of the list in
// the scan; lane k adds items k, k + 32, … and a tree adds the lanes in the refinement.
#include "indexing_axes.cuh"
#include "indexing_normal.cuh"
#include "keep_smallest.cuh"

#define SCAN_THREADS 256
// Blocks on a multiprocessor at a time: without a number some versions of NVRTC spill, or take too many registers.
#define SCAN_BLOCKS 4
#define REFINE_BLOCKS 8
#define KEEP_BLOCKS 4
#define EACH 4                   // directions of a thread
#define TILE 1024                // directions of a block at a time
#define LENGTH_BLOCKS 16         // that share the lengths of a band
#define PLACE_BITS 16            // of a direction, in the key of a score
#define BEST_KEYS 256            // room for those of all lengths so far and of one more, a power of two
#define CHOOSE_THREADS 256
#define CHOSEN_KEYS 2048         // room for those of all blocks, a power of two
#define REFINE_THREADS 128       // a warp for each axis
#define KEEP_THREADS 256
#define LOST -1.0f               // score of no axis

// Of the wider Gaussian of the score: 1 / 2 s^2, and half of its greatest density, 1 / 2 (2 pi)^0.5 s.
#define VECTOR_EXPONENT (0.5f / (VECTOR_SIGMAS_0 * VECTOR_SIGMAS_0))
#define VECTOR_DENSITY (0.5f / (2.50662827f * VECTOR_SIGMAS_0))

static_assert(TILE == EACH * SCAN_THREADS && 2 * TILE <= BUFFER_KEYS && LENGTH_SAMPLED <= TILE, "tiles fit");
static_assert(SCAN_THREADS == BEST_KEYS && BAND_SAMPLED + LENGTH_SAMPLED <= BEST_KEYS, "keys fit");
static_assert(LENGTH_BLOCKS * BAND_SAMPLED <= CHOSEN_KEYS && BAND_SAMPLED <= CHOOSE_THREADS, "keys fit");
static_assert(BAND_SAMPLED % (REFINE_THREADS / 32) == 0 && MOST_DIRECTIONS <= 1 << PLACE_BITS, "sizes");

// The length number k of a band.
__device__ __forceinline__ float length_of(const Band& band, int k)
{
    const float share = __fdiv_rn(__fsub_rn(band.longest, band.shortest), (float)band.n_length);
    return __fmaf_rn((float)k + 0.5f, share, band.shortest);
}

// Scores of EACH directions of a thread, SCAN_THREADS apart.
__device__ __forceinline__ void score_tile(const float4* vectors, int n_vector, const float4* __restrict__ level, int first,
                                           int n, float* score)
{
    float4 direction[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        direction[k] = level[min(first + k * SCAN_THREADS, n - 1)];
        score[k] = 0.0f;
    }
    for (int i = 0; i < n_vector; i++) {
        const float4 vector = vectors[i];
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            const float d = off_integer(dot(vector, direction[k].x, direction[k].y, direction[k].z));
            score[k] = __fadd_rn(score[k], direction_score(vector.w, d));
        }
    }
}

// A block takes every LENGTH_BLOCKS-th length of a band, TILE directions at a time; of each length the LENGTH_SAMPLED
// best count.  Key: (score, the highest first; number of the length; number of the direction).
// Grid (LENGTH_BLOCKS, most_bands, slots).  Memory: 24 kB of shared memory, the grid stays in the caches.  Bound by
// arithmetic: 10 operations a vector, direction and length.
extern "C" __global__ void __launch_bounds__(SCAN_THREADS, SCAN_BLOCKS)
scan_bands(const PeakSet* __restrict__ lists, const Band* __restrict__ bands, const float4* __restrict__ band_vectors,
           const float4* __restrict__ grid,           // (direction of all levels): x y z
           const int* __restrict__ grid_start,        // (N_SCAN_LEVELS + 1): first direction of each level
           unsigned long long* __restrict__ best_keys)    // (slot, band, LENGTH_BLOCKS, BAND_SAMPLED): ~0 where there is none
{
    __shared__ KeyBuffer buffer;
    __shared__ unsigned long long best[BEST_KEYS];
    __shared__ float4 vectors[BAND_MOST];
    const int band = blockIdx.y, slot = blockIdx.z, tid = threadIdx.x, place = slot * gridDim.y + band;
    if (band >= lists[slot >> 1].n_band) return;
    const Band own = bands[place];
    if (own.n_vector <= 0 || blockIdx.x >= own.n_length) return;
    const float4* given = band_vectors + (long long)place * BAND_MOST;
    const float4* level = grid + grid_start[own.level];
    const int n = grid_start[own.level + 1] - grid_start[own.level];
    best[tid] = ~0ull;
#pragma unroll 1
    for (int k = blockIdx.x; k < own.n_length; k += LENGTH_BLOCKS) {
        __syncthreads();
        const float size = length_of(own, k);
        for (int i = tid; i < own.n_vector; i += SCAN_THREADS) vectors[i] = scaled(given[i], size);
        begin_keys(&buffer, best[BAND_SAMPLED - 1]);
        int found = 0;
#pragma unroll 1
        for (int first = 0; first < n; first += TILE) {
            float score[EACH];
            score_tile(vectors, own.n_vector, level, first + tid, n, score);
#pragma unroll
            for (int e = 0; e < EACH; e++) {
                const int at = first + tid + e * SCAN_THREADS;
                const unsigned int high = ~__float_as_uint(score[e]);       // positive floats in falling order
                if (at < n && score[e] > 0.0f)
                    offer(&buffer, (unsigned long long)high << 32 | (unsigned int)(k << PLACE_BITS | at));
            }
            found = make_room(&buffer, TILE, first + TILE >= n, LENGTH_SAMPLED);
        }
        if (tid < LENGTH_SAMPLED) best[BAND_SAMPLED + tid] = tid < found ? buffer.keys[tid] : ~0ull;
        sort_keys(best, BEST_KEYS);
    }
    if (tid < BAND_SAMPLED) best_keys[((long long)place * LENGTH_BLOCKS + blockIdx.x) * BAND_SAMPLED + tid] = best[tid];
}

// One block a band of a slot: the BAND_SAMPLED best of all its blocks, best first.
// Grid (most_bands, slots).  Memory: 16 kB of shared memory.
extern "C" __global__ void __launch_bounds__(CHOOSE_THREADS)
choose_axes(const PeakSet* __restrict__ lists, const Band* __restrict__ bands,
            const unsigned long long* __restrict__ best_keys, const float4* __restrict__ grid,
            const int* __restrict__ grid_start,
            float4* __restrict__ axes)                // (slot, band, BAND_SAMPLED): x y z, angstrom; 0, or LOST
{
    __shared__ unsigned long long keys[CHOSEN_KEYS];
    const int band = blockIdx.x, slot = blockIdx.y, tid = threadIdx.x, place = slot * gridDim.x + band;
    if (band >= lists[slot >> 1].n_band) return;
    const Band own = bands[place];
    if (own.n_vector <= 0) return;
    const int n = min(own.n_length, LENGTH_BLOCKS) * BAND_SAMPLED;
    int room = 1;
    while (room < n) room <<= 1;
    for (int i = tid; i < room; i += CHOOSE_THREADS)
        keys[i] = i < n ? best_keys[(long long)place * LENGTH_BLOCKS * BAND_SAMPLED + i] : ~0ull;
    sort_keys(keys, room);
    if (tid >= BAND_SAMPLED) return;
    float4 axis = make_float4(0.0f, 0.0f, 0.0f, LOST);
    if (keys[tid] != ~0ull) {
        const unsigned int numbers = (unsigned int)keys[tid];
        const float4 unit = grid[grid_start[own.level] + (numbers & ((1 << PLACE_BITS) - 1))];
        axis = scaled(unit, length_of(own, numbers >> PLACE_BITS));
    }
    axes[place * BAND_SAMPLED + tid] = axis;
}

__device__ __forceinline__ float length_of_axis(float4 t)
{
    return __fsqrt_rn(dot(t, t.x, t.y, t.z));
}

// One least-squares step of an axis on the vectors that are not longer than a limit.
__device__ __forceinline__ void axis_step(const float4* __restrict__ vectors, int n, float tolerance, float limit, float4* t)
{
    const float square = __fmul_rn(limit, limit);
    const auto weight_of = [&](float4 v) { return dot(v, v.x, v.y, v.z) <= square ? 1.0f : 0.0f; };
    const NormalSums s = sum_normals(vectors, n, *t, tolerance, weight_of);
    const double ridge = (double)VECTOR_RIDGE * ((double)s.xx + (double)s.yy + (double)s.zz);
    if (!(ridge > 0.0)) return;
    const Normal normal = {s.xx + ridge, s.xy, s.xz, s.yy + ridge, s.yz, s.zz + ridge, s.x, s.y, s.z};
    move_by_solution(normal, (double)VECTOR_STEP * (double)length_of_axis(*t), t);
}

// Log-likelihood ratio of "half of the peaks lie about planes of the lattice" and "none does", the larger for two
// widths, each half of the one before, so its exponential is the fourth power.
__device__ __forceinline__ float axis_likelihood(const float4* __restrict__ peaks, int n, float4 t)
{
    float wide = 0.0f, narrow = 0.0f;
    for (int i = threadIdx.x & 31; i < n; i += 32) {
        const float d = off_integer(dot(peaks[i], t.x, t.y, t.z));
        float gauss = exp_of_minus(__fmul_rn(VECTOR_EXPONENT, __fmul_rn(d, d)));
        wide = __fadd_rn(wide, log_of(__fmaf_rn(VECTOR_DENSITY, gauss, 0.5f)));
        gauss = __fmul_rn(gauss, gauss);
        gauss = __fmul_rn(gauss, gauss);
        narrow = __fadd_rn(narrow, log_of(__fmaf_rn(2.0f * VECTOR_DENSITY, gauss, 0.5f)));
    }
    return fmaxf(warp_sum(wide), warp_sum(narrow));
}

// A warp takes an axis: least squares on the vectors of its band, then on peaks in a growing range; then its score,
// or LOST if its length left the range.
// Grid (BAND_SAMPLED / 4, most_bands, slots).  Memory: vectors and peaks come from the caches.
extern "C" __global__ void __launch_bounds__(REFINE_THREADS, REFINE_BLOCKS)
refine_axes(const PeakSet* __restrict__ lists, const Band* __restrict__ bands, const float4* __restrict__ band_vectors,
            const float4* __restrict__ list_peaks,
            float4* __restrict__ axes)                // (slot, band, BAND_SAMPLED): x y z, score
{
    const float everything = 1e9f;
    const int band = blockIdx.y, slot = blockIdx.z, place = slot * gridDim.y + band;
    const int number = blockIdx.x * (REFINE_THREADS / 32) + (threadIdx.x >> 5);
    const PeakSet set = lists[slot >> 1];
    if (band >= set.n_band) return;
    const int n_vector = bands[place].n_vector;
    if (n_vector <= 0) return;
    const float4* vectors = band_vectors + (long long)place * BAND_MOST;
    const float4* peaks = list_peaks + (slot >> 1) * MOST_PEAKS_UNKNOWN;
    float4 t = axes[place * BAND_SAMPLED + number];
    if (t.w < 0.0f) return;                           // whole warps; there is no barrier
#pragma unroll 1
    for (int round = 0; round < 2; round++) axis_step(vectors, n_vector, VECTOR_TOLERANCE, everything, &t);
    float limit = __fdiv_rn(VECTOR_RANGE, length_of_axis(t));
#pragma unroll 1
    for (bool more = true; more; limit = __fmul_rn(limit, VECTOR_GROWTH)) {
        axis_step(peaks, set.n_peak, VECTOR_TOLERANCE, limit, &t);
        more = limit <= set.farthest;
    }
#pragma unroll 1
    for (int round = 0; round < 2; round++)
        axis_step(peaks, set.n_peak, round ? VECTOR_LAST_TOLERANCE_1 : VECTOR_LAST_TOLERANCE_0, everything, &t);
    const float length = length_of_axis(t);
    const bool fits = __fdiv_rn(set.shortest, VECTOR_BEYOND) <= length && length <= __fmul_rn(set.longest, VECTOR_BEYOND);
    t.w = fits ? axis_likelihood(peaks, set.n_peak, t) : LOST;
    __syncwarp(ALL_LANES);                            // all lanes have read it
    if ((threadIdx.x & 31) == 0) axes[place * BAND_SAMPLED + number] = t;
}

// Whether an axis differs from a better one, or from that reversed, by a small share of its length only.
__device__ __forceinline__ bool is_same_axis(float4 axis, float4 better)
{
    const float4 apart = make_float4(__fsub_rn(axis.x, better.x), __fsub_rn(axis.y, better.y), __fsub_rn(axis.z, better.z), 0.0f);
    const float4 sum = make_float4(__fadd_rn(axis.x, better.x), __fadd_rn(axis.y, better.y), __fadd_rn(axis.z, better.z), 0.0f);
    const float nearer = fminf(dot(apart, apart.x, apart.y, apart.z), dot(sum, sum.x, sum.y, sum.z));
    return nearer <= __fmul_rn(SAME_VECTOR * SAME_VECTOR, dot(axis, axis.x, axis.y, axis.z));
}

// The smallest key of all threads of the block.
__device__ __forceinline__ unsigned long long smallest_of_block(unsigned long long key, unsigned long long* of_warp)
{
    for (int step = 16; step; step >>= 1) {
        const unsigned long long other = __shfl_xor_sync(ALL_LANES, key, step);
        key = other < key ? other : key;
    }
    if ((threadIdx.x & 31) == 0) of_warp[threadIdx.x >> 5] = key;
    __syncthreads();
    for (int w = 0; w < KEEP_THREADS / 32; w++) key = of_warp[w] < key ? of_warp[w] : key;
    __syncthreads();                                  // the next call writes of_warp again
    return key;
}

// One block a slot: the best axis is kept and all that are the same go, again and again; ties by number.
// Grid (slots).  Memory: reads 16 bytes an axis up to MOST_VECTORS times.
extern "C" __global__ void __launch_bounds__(KEEP_THREADS, KEEP_BLOCKS)
keep_axes(const PeakSet* __restrict__ lists, const Band* __restrict__ bands,
          float4* __restrict__ axes,                  // (slot, band, BAND_SAMPLED): scores are overwritten
          float4* __restrict__ found_axes,            // (slot, MOST_VECTORS): best first, 0 behind the last
          int* __restrict__ n_axis,                   // (slot): how many; TOO_LONG if the CPU must look for them
          int most_bands)
{
    __shared__ unsigned long long of_warp[KEEP_THREADS / 32];
    __shared__ float4 best;
    const int slot = blockIdx.x, tid = threadIdx.x, n_band = lists[slot >> 1].n_band;
    const Band* own = bands + slot * most_bands;
    float4* all = axes + (long long)slot * most_bands * BAND_SAMPLED;
    float4* found = found_axes + slot * MOST_VECTORS;
    bool too_long = false;
    for (int band = 0; band < n_band; band++) too_long = too_long || own[band].n_vector == TOO_LONG;
    int n = 0;
    for (; n < MOST_VECTORS && !too_long; n++) {
        unsigned long long key = ~0ull;
        for (int i = tid; i < n_band * BAND_SAMPLED; i += KEEP_THREADS) {
            if (own[i / BAND_SAMPLED].n_vector <= 0 || !(all[i].w > VECTOR_LEAST)) continue;
            const unsigned long long mine = (unsigned long long)~__float_as_uint(all[i].w) << 32 | (unsigned int)i;
            key = mine < key ? mine : key;
        }
        key = smallest_of_block(key, of_warp);
        if (key == ~0ull) break;                      // the same for all
        const int number = (int)(unsigned int)key;
        if (tid == number % KEEP_THREADS) best = found[n] = all[number];
        __syncthreads();
        for (int i = tid; i < n_band * BAND_SAMPLED; i += KEEP_THREADS)
            if (own[i / BAND_SAMPLED].n_vector > 0 && is_same_axis(all[i], best)) all[i].w = LOST;
        __syncthreads();                              // the next one is not written before
    }
    for (int i = n + tid; i < MOST_VECTORS; i += KEEP_THREADS) found[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    if (tid == 0) n_axis[slot] = too_long ? TOO_LONG : n;
}
