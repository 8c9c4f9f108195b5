// SPDX-License-Identifier: GPL-3.0-or-later
// The smallest keys of a stream, by a block: those below a limit go to a buffer; when the next ones might not fit
// it is sorted, and the limit sinks to the last key that is wanted.
#pragma once
#include "block.cuh"

#define BUFFER_KEYS 2048         // a power of two

// In shared memory.  All keys must differ, and be less than ~0.
struct KeyBuffer {
    unsigned long long keys[BUFFER_KEYS];
    unsigned long long limit;    // keys from here on are not wanted
    int n;
};

// To be called by every thread, as all that follows but `offer`.
__device__ __forceinline__ void begin_keys(KeyBuffer* buffer, unsigned long long limit)
{
    __syncthreads();
    if (threadIdx.x == 0) {
        buffer->n = 0;
        buffer->limit = limit;
    }
    __syncthreads();
}

// In any order: the sort makes one order of keys that differ.
__device__ __forceinline__ void offer(KeyBuffer* buffer, unsigned long long key)
{
    if (key < buffer->limit) buffer->keys[atomicAdd(&buffer->n, 1)] = key;
}

// The `most` smallest keys offered so far come first, sorted, with ~0 behind the last if they are fewer; gives their number.
__device__ __forceinline__ int cut_keys(KeyBuffer* buffer, int most)
{
    __syncthreads();
    const int n = buffer->n;
    int room = 1;
    while (room < max(n, most)) room <<= 1;
#pragma unroll 1
    for (int i = n + threadIdx.x; i < room; i += blockDim.x) buffer->keys[i] = ~0ull;
    sort_keys(buffer->keys, room);
    if (threadIdx.x == 0) {
        buffer->n = min(n, most);
        if (buffer->keys[most - 1] < buffer->limit) buffer->limit = buffer->keys[most - 1];
    }
    __syncthreads();
    return min(n, most);
}

// Cuts them if there is not room for so many further keys, and at the end; gives their number then.
__device__ __forceinline__ int make_room(KeyBuffer* buffer, int n_further, bool at_end, int most)
{
    __syncthreads();
    const bool full = buffer->n + n_further > BUFFER_KEYS;
    __syncthreads();             // the next keys change n
    return full || at_end ? cut_keys(buffer, most) : 0;
}
