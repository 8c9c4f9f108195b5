// SPDX-License-Identifier: GPL-3.0-or-later
// Pixels from chunks that were compressed by bitshuffle with LZ4 (HDF5 filter 32008), where the peak search reads them.
//
// A chunk: a head of 12 bytes, which the host has checked; then blocks, each behind its length (4 bytes, big-endian);
// then the last few pixels, fewer than eight, as they are.  A block is in LZ4's block format (lz4_Block_format.md).
// What comes out are rows of bits: row r has bit r of all pixels of the block, bit k of its byte j that of pixel 8j + k.
// The last block has as many times eight pixels as are left.
//
// What a sender wrote is not believed: nothing is read outside a chunk, or written outside a block's own pixels.  A
// block that is damaged becomes zeros and sets its frame's flag; what LZ4's own safe decoder refuses is damaged.
//
// Set when it is compiled: PIXEL, an unsigned type as wide as a pixel, and BLOCK_BYTES, of the largest block.
#include "block.cuh"

#define DECODE_THREADS 32    // a warp: what it does is one chain of steps

// LZ4 ends a block with so many bytes that were not matched, and begins its last match so many before the end.
#define LAST_LITERALS 5
#define MATCH_LIMIT 12

#define ROWS (8 * (int)sizeof(PIXEL))            // of bits in a block
#define GROUPS (32 / ROWS)                       // of 32 pixels that a warp turns at once
#define ROW_BYTES (BLOCK_BYTES / ROWS)           // of a row in the largest block
#define SKIP (4 * GROUPS)                        // bytes left free behind each row
#define SHARED_WORDS ((BLOCK_BYTES + ROWS * SKIP) / 4)

static_assert(ROW_BYTES % 4 == 0 && ROW_BYTES * ROWS == BLOCK_BYTES, "rows of the largest block are words");

// Where byte `at` of a block lies in shared memory: so far apart that the words that lanes read at once, one of each
// row, are in different banks.
__device__ __forceinline__ int place(unsigned int at) { return (int)(at + at / ROW_BYTES * SKIP); }

// Goes on with a length that does not fit the token: bytes are added up to the first that is not 255.
// False if the input ends, or for a length that no block has.
__device__ __forceinline__ bool read_length(const unsigned char* __restrict__ in, int n_in, int* at, int* length)
{
    if (*length < 15) return true;
    int more = 255;
    while (more == 255) {
        if (*at >= n_in || *length > BLOCK_BYTES) return false;
        more = in[(*at)++];
        *length += more;
    }
    return true;
}

// One block of LZ4 into shared memory, by a warp: all lanes follow the same steps, each copies its share of the bytes.
// False if the input does not make exactly n_out bytes.
__device__ __forceinline__ bool decode_lz4(const unsigned char* __restrict__ in, int n_in,
                                           unsigned char* out, int n_out)
{
    const int lane = threadIdx.x;
    int from = 0, to = 0;
    while (from < n_in) {
        const int token = in[from++];
        int length = token >> 4;
        if (!read_length(in, n_in, &from, &length) || length > n_in - from || length > n_out - to) return false;
#pragma unroll 1
        for (int i = lane; i < length; i += 32) out[place(to + i)] = in[from + i];
        from += length;
        to += length;
        if (from == n_in) return to == n_out;    // behind the last literals there is no match
        if (to > n_out - MATCH_LIMIT || from > n_in - (2 + 1 + LAST_LITERALS)) return false;
        const int offset = in[from] | in[from + 1] << 8;
        from += 2;
        length = token & 15;
        if (!read_length(in, n_in, &from, &length)) return false;
        length += 4;
        if (offset == 0 || offset > to || length > n_out - LAST_LITERALS - to) return false;
        __syncwarp();                            // what is copied has been written
        if (offset < 32) {                       // a short pattern again and again: each lane keeps its byte of it
            const int step = 32 - 32 % offset;
            const unsigned char own = out[place(to - offset + lane % offset)];
            if (lane < step)
#pragma unroll 1
                for (int i = lane; i < length; i += step) out[place(to + i)] = own;
        } else {
#pragma unroll 1
            for (int i = lane; i < length; i += 32) {
                const int k = i < offset ? i : i % offset;
                out[place(to + i)] = out[place(to - offset + k)];
            }
        }
        to += length;
        __syncwarp();
    }
    return false;
}

// Bit k of lane l becomes bit l of lane k: blocks of 16 × 16 bits change places, then those of 8 × 8 in each, …
__device__ __forceinline__ unsigned int turned(unsigned int word)
{
    const int lane = threadIdx.x;
    unsigned int low = 0x0000ffffu;
#pragma unroll
    for (int step = 16; step > 0; step >>= 1) {
        const unsigned int other = __shfl_xor_sync(ALL_LANES, word, step);
        word = lane & step ? (word & ~low) | (other >> step & low) : (word & low) | (other & low) << step;
        low ^= low << (step >> 1);
    }
    return word;
}

// The pixels of a block from its rows of bits; n: of the block, a multiple of eight.
__device__ __forceinline__ void unshuffle(const unsigned int* words, int n, PIXEL* __restrict__ pixels)
{
    const unsigned char* bytes = (const unsigned char*)words;
    const int lane = threadIdx.x, row = lane % ROWS, group = lane / ROWS, row_bytes = n / 8;
#pragma unroll 1
    for (int first = 0; first < n; first += 32 * GROUPS) {
        const int column = first / 8 + 4 * group, at = row * row_bytes + column;
        unsigned int word = 0;
        if (row_bytes % 4 == 0) {
            if (column < row_bytes) word = words[place(at) / 4];
        } else {
            for (int j = 0; j < 4; j++)
                if (column + j < row_bytes) word |= (unsigned int)bytes[place(at + j)] << (8 * j);
        }
        word = turned(word);
#pragma unroll
        for (int g = 0; g < GROUPS; g++) {
            const int pixel = first + 32 * g + lane;
            if (pixel < n) pixels[pixel] = (PIXEL)(word >> (ROWS * g));
        }
    }
}

// One block of a chunk a block of threads; the one behind the last copies the pixels that are not compressed.
// Grid (blocks of the chunk with the most, and one; chunks).  Those that a chunk has not got end at once.
// Memory: reads each chunk once, writes each pixel once; 8.1 KiB of shared memory, which limits how many run at a time.
extern "C" __global__ void __launch_bounds__(DECODE_THREADS)
decode_bslz4(const unsigned char* __restrict__ packed,   // (row, stride): starts of blocks and end, ints; the chunk
             const int* __restrict__ about,              // (chunk, 4): row, frame, bytes, pixels of a block
             PIXEL* __restrict__ images,                 // (frame, n_pixel)
             int* __restrict__ damaged,                  // (frame), zero before: 1 if a block is damaged
             int n_pixel, int stride)
{
    __shared__ unsigned int words[SHARED_WORDS];
    const int lane = threadIdx.x, number = blockIdx.x;
    const int* own = about + 4 * blockIdx.y;
    const int frame = own[1], size = own[2], block = own[3];
    const int n_shuffled = n_pixel & ~7, n_block = (n_shuffled + block - 1) / block;
    if (number > n_block) return;
    const unsigned char* row = packed + (long long)own[0] * stride;
    const int* starts = (const int*)row;
    const unsigned char* chunk = row + 4 * (n_block + 1);
    PIXEL* pixels = images + (long long)frame * n_pixel;
    const int start = starts[number];
    bool is_good = start >= 0 && start <= size;
    if (number == n_block) {                             // a few pixels at the end, perhaps none
        const int n_rest = n_pixel - n_shuffled;
        is_good = is_good && n_rest * (int)sizeof(PIXEL) == size - start;
        if (lane < n_rest) {
            unsigned int value = 0;
            for (int j = 0; j < (int)sizeof(PIXEL) && is_good; j++)
                value |= (unsigned int)chunk[start + lane * (int)sizeof(PIXEL) + j] << (8 * j);
            pixels[n_shuffled + lane] = (PIXEL)value;
        }
    } else {
        const int first = number * block, n = min(block, n_shuffled - first), end = starts[number + 1];
        is_good = is_good && end <= size && end > start + 4;
        if (is_good)
            is_good = decode_lz4(chunk + start + 4, end - start - 4, (unsigned char*)words, n * (int)sizeof(PIXEL));
        __syncwarp();
        if (is_good) unshuffle(words, n, pixels + first);
        else
#pragma unroll 1
            for (int i = lane; i < n; i += 32) pixels[first + i] = 0;
    }
    if (lane == 0 && !is_good) atomicOr(&damaged[frame], 1);
}
