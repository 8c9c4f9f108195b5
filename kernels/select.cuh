// SPDX-License-Identifier: GPL-3.0-or-later
// The smallest of many keys, by a block: radix select, then a sort of the few that are left.
#pragma once

#include "block.cuh"

#define SELECT_THREADS 256
#define SELECT_MOST 256          // keys that can be asked for
#define DIGIT_BITS 11
#define N_DIGITS 2048            // 2 to that power

// In shared memory.
struct Selection {
    unsigned long long keys[SELECT_MOST];    // the result, smallest first; all bits set where there is none
    unsigned int histogram[N_DIGITS];
    int warp_total[SELECT_THREADS / 32];
    int digit, before, inside;               // digit of the key that is wanted; keys with lower ones, with that one
    int n_taken;
};

// Finds the digit that the key number `wanted`, from 1, has; gives the number of keys in the histogram.
// If that is less than wanted nothing is found.  To be called by every thread.
__device__ __forceinline__ int find_digit(Selection* selection, int wanted)
{
    const unsigned int* own = selection->histogram + threadIdx.x * (N_DIGITS / SELECT_THREADS);
    int n = 0, total;
    for (int k = 0; k < N_DIGITS / SELECT_THREADS; k++) n += own[k];
    int before = prefix_sum(n, selection->warp_total, &total);
    if (before < wanted && wanted <= before + n) {             // true for one thread
        int k = 0;
        while (before + (int)own[k] < wanted) before += own[k++];
        selection->digit = threadIdx.x * (N_DIGITS / SELECT_THREADS) + k;
        selection->before = before;
        selection->inside = own[k];
    }
    __syncthreads();
    return total;
}

// Counts the digit at `shift` of the candidates, or of a part of them, whose higher digits are those of `prefix`.
template <class Each>
__device__ __forceinline__ void count_digits(const Each& each, bool part, unsigned int highest, int shift,
                                             unsigned long long prefix, unsigned long long mask, Selection* selection)
{
    for (int k = threadIdx.x; k < N_DIGITS; k += SELECT_THREADS) selection->histogram[k] = 0;
    __syncthreads();
    each(part, highest, [&](unsigned int high, unsigned int low) {
        const unsigned long long key = (unsigned long long)high << 32 | low;
        // counts do not depend on the order, and there are fewer than 2^32 candidates
        if ((key & mask) == prefix) atomicAdd(&selection->histogram[key >> shift & (N_DIGITS - 1)], 1u);
    });
    __syncthreads();
}

// Puts the `most` smallest keys into selection->keys, sorted; gives their number.  All keys must differ.
//
// each(part, highest, visit), an object with a template operator(): all threads together call visit(high, low) once for
// each candidate with high <= highest; these are the upper and lower 32 bits of its key.  If `part`, any may be left out: a first look at a
// part gives a limit that saves most of the work, and of the contention, of the rest.
template <class Each>
__device__ __forceinline__ int select_smallest(const Each& each, int most, Selection* selection)
{
    const int first_shift = 64 - DIGIT_BITS;
    const unsigned int lower_bits = (1u << (first_shift - 32)) - 1;
    unsigned int highest = 0xffffffffu;
    count_digits(each, true, highest, first_shift, 0, 0, selection);
    if (find_digit(selection, most) >= most)
        highest = (unsigned int)selection->digit << (first_shift - 32) | lower_bits;

    unsigned long long prefix = 0, mask = 0;
    int need = most, found = most;
#pragma unroll 1
    for (int shift = first_shift;;) {
        count_digits(each, false, highest, shift, prefix, mask, selection);
        const int total = find_digit(selection, need);
        if (shift == first_shift && total <= most) {           // take them all: mask is 0
            found = total;
            break;
        }
        prefix |= (unsigned long long)selection->digit << shift;
        mask |= (unsigned long long)(N_DIGITS - 1) << shift;
        highest = (unsigned int)((prefix | ~mask) >> 32);
        need -= selection->before;
        if (need == selection->inside) break;
        shift = shift > DIGIT_BITS ? shift - DIGIT_BITS : 0;   // the last digit repeats a few bits
    }

    selection->keys[threadIdx.x] = ~0ull;
    if (threadIdx.x == 0) selection->n_taken = 0;
    __syncthreads();
    each(false, highest, [&](unsigned int high, unsigned int low) {
        const unsigned long long key = (unsigned long long)high << 32 | low;
        // in any order: the sort makes one order of keys that differ
        if ((key & mask) <= prefix) selection->keys[atomicAdd(&selection->n_taken, 1)] = key;
    });
    sort_keys(selection->keys, SELECT_MOST);
    return found;
}
