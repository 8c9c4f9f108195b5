// SPDX-License-Identifier: GPL-3.0-or-later
// What the threads of a block do together, whatever the kernel is about.
#pragma once

#define ALL_LANES 0xffffffffu

// Sum of the values of the block's threads before this one; *total is that of all.
// To be called by every thread of the block; warp_total: shared, one for each warp.
__device__ __forceinline__ int prefix_sum(int value, int* warp_total, int* total)
{
    const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, n_warp = blockDim.x >> 5;
    int sum = value;
    for (int step = 1; step < 32; step <<= 1) {
        const int below = __shfl_up_sync(ALL_LANES, sum, step);
        if (lane >= step) sum += below;
    }
    if (lane == 31) warp_total[warp] = sum;
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < n_warp; w++) {
        if (w < warp) before += warp_total[w];
        all += warp_total[w];
    }
    __syncthreads();     // the next call writes warp_total again
    *total = all;
    return before + sum - value;
}

// Sorts keys in shared memory, smallest first; to be called by every thread of the block.
// n: a power of two.  comes_before(a, b) must be an order in which only keys that are the same in every bit tie:
// then the result does not depend on how they came.  Bitonic network: K. E. Batcher (1968).
template <class Key, class Before>
__device__ __forceinline__ void sort_keys(Key* keys, int n, const Before& comes_before)
{
    for (int run = 2; run <= n; run <<= 1)
        for (int step = run >> 1; step > 0; step >>= 1) {
            __syncthreads();
            for (int i = threadIdx.x; i < n; i += blockDim.x) {
                const int other = i ^ step;
                if (other < i) continue;
                const Key mine = keys[i], its = keys[other];
                const bool rising = (i & run) == 0;
                if (rising ? comes_before(its, mine) : comes_before(mine, its)) {
                    keys[i] = its;
                    keys[other] = mine;
                }
            }
        }
    __syncthreads();
}

__device__ __forceinline__ void sort_keys(unsigned long long* keys, int n)
{
    sort_keys(keys, n, [](unsigned long long a, unsigned long long b) { return a < b; });
}
