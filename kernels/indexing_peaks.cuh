// SPDX-License-Identifier: GPL-3.0-or-later
// The peaks of a frame that can be used, and differences of two of them.  Twin: gpuidx/backends/cpu/vectors.py.
#pragma once
#include "indexing.cuh"

#define NUMBER_BITS 12       // of a peak, in the key of a pair

// By length, then by coordinates: peaks that tie are equal.
__device__ __forceinline__ bool peak_before(float4 a, float4 b)
{
    if (a.w != b.w) return a.w < b.w;
    if (a.x != b.x) return a.x < b.x;
    if (a.y != b.y) return a.y < b.y;
    return a.z < b.z;
}

// Puts the peaks that are finite, not zero and not left out into `kept`, sorted (x y z length); gives their number.
// To be called by every thread of the block.  q: (n_given, xyz); is_left_out(number); kept: shared, with room for
// n_given and more up to a power of two; warp_total: shared, one for each warp.
template <class LeftOut>
__device__ __forceinline__ int usable_peaks(const double* __restrict__ q, int n_given, const LeftOut& is_left_out, float4* kept,
                                            int* warp_total)
{
    int n = 0;
    for (int first = 0; first < n_given; first += blockDim.x) {
        const int i = first + threadIdx.x;
        double x = 0.0, y = 0.0, z = 0.0;
        if (i < n_given && !is_left_out(i)) {
            x = q[3 * i];
            y = q[3 * i + 1];
            z = q[3 * i + 2];
        }
        const double length = sqrt(x * x + y * y + z * z);
        const bool usable = length > 0.0 && length < LONGEST_PEAK;    // false for NaN
        int total;
        const int at = n + prefix_sum(usable, warp_total, &total);
        // adding 0 makes +0 of -0, so that equal coordinates have the same bits
        if (usable) kept[at] = make_float4((float)(x + 0.0), (float)(y + 0.0), (float)(z + 0.0), (float)length);
        n += total;
    }
    int room = 1;
    while (room < n) room <<= 1;
    const float behind = __int_as_float(0x7f800000);
    for (int i = n + threadIdx.x; i < room; i += blockDim.x) kept[i] = make_float4(behind, behind, behind, behind);
    sort_keys(kept, room, peak_before);
    return n;
}

// How many of some peaks, sorted by length, are shorter than a limit.
__device__ __forceinline__ int count_shorter(const float4* __restrict__ peaks, int n, float limit)
{
    int below = 0;
    for (int above = n; above > below;) {
        const int middle = (below + above) >> 1;
        if (peaks[middle].w < limit) below = middle + 1;
        else above = middle;
    }
    return below;
}

// A peak, or its difference from a peak before it; the square of its length in w.
__device__ __forceinline__ float4 pair_of(const float4* __restrict__ peaks, int i, int j)
{
    float4 pair = peaks[i];
    if (j < i) {
        const float4 other = peaks[j];
        pair.x = __fsub_rn(pair.x, other.x);
        pair.y = __fsub_rn(pair.y, other.y);
        pair.z = __fsub_rn(pair.z, other.z);
    }
    pair.w = dot(pair, pair.x, pair.y, pair.z);
    return pair;
}

// The pair of the two peaks that the lower half of a key names, with its weight in w.
__device__ __forceinline__ float4 pair_of_key(const float4* __restrict__ peaks, unsigned long long key)
{
    const unsigned int numbers = (unsigned int)key;
    const int i = numbers >> NUMBER_BITS, j = numbers & ((1 << NUMBER_BITS) - 1);
    float4 pair = pair_of(peaks, i, j);
    pair.w = j == i ? PEAK_WEIGHT : 1.0f;
    return pair;
}
