// SPDX-License-Identifier: GPL-3.0-or-later
// What the kernels of the indexing trials share: records, and arithmetic with the same bits everywhere.
//
// Twins: gpuidx/backends/cpu/{vectors,scan,turn,orient,cell_fit,score,search}.py.  The CPU's is the definition.
// Here floats have 32 bits where they have 64 there, and sums other orders, so scores agree to about 1e-5 and
// lattices to a few 1e-5 degrees; but a frame has the same bits alone, in any batch, and in any order of threads.
//
// A *slot* is a place in the list of frames that an attempt is made for.  Buffers that live for one attempt are
// indexed by slot, all others by frame.  Lists are (frame or slot, room) arrays with a count for each.
//
// Set when they are compiled (gpuidx/backends/cuda/trial_tables.py): every number in gpuidx/backends/constants.py
// by its name, those of a tuple as NAME_0, NAME_1, …; and
//   N_SCAN_LEVELS N_TURN_LEVELS   levels of sampling
//   SCAN_VECTORS TURN_VECTORS     room for the vectors of the scan and of the turn
//   ANCHOR_BYTES                  size of the record on the host
//   MOST_ANGLES                   of one level of the turn
//   N_SCORE_SIGMAS                widths of the likelihood score
//   SAME_TRACE TWIN_TRACE         traces of turns by SAME_ANGLE and TWIN_ANGLE
#pragma once

#include "block.cuh"

// One of the three rows of the reduced cell that can be searched first, and all else about the cell.
// Twin: known_cell.CellTables; 4-byte members only.
struct Anchor {
    float local[9];                       // (row, xyz) rows in cyclic order, the anchor along z; angstrom
    float metric_inverse[9];              // of those rows; angstrom^-2
    float length;                         // of the anchor; angstrom
    float longest;                        // row of the cell; angstrom
    float scan_shortest;                  // length of vectors for the scan; 1/angstrom
    float pair_shortest, pair_longest;    // 1/angstrom
    float scan_limit[N_SCAN_LEVELS];      // a level takes vectors shorter than this; 1/angstrom
    float turn_limit[N_TURN_LEVELS];
    float turn_cycles[N_TURN_LEVELS];
    float same_direction[N_SCAN_LEVELS];  // squared sine of the angle below which two directions are one
    int polar;                            // whether both signs must be tried
    int grid_start[N_SCAN_LEVELS + 1];    // first direction of each level
    int turn_start[N_TURN_LEVELS];        // first angle of each level
    int turn_steps[N_TURN_LEVELS];        // number of angles
};
static_assert(sizeof(Anchor) == ANCHOR_BYTES, "trial_tables.ANCHOR");

// An attempt that can be made for a frame.
struct Attempt {
    int anchor, kind;                     // kind: DIRECT or PAIRS
    int begins;                           // whether the usable peaks must be found first
};

// What is done in a slot.
struct Task {
    int frame, anchor, kind;
    int number;                           // of the attempt
};

// Vectors of a slot.  None where there are too few: then its n_direction is 0, and nothing before that is written.
struct VectorSets {
    int n_scan, n_turn;
    int scan_level, turn_level;
};

// ROUND added and subtracted rounds |p| < 4e6 to the nearest integer, half to even, with two additions.
#define ROUND 12582912.0f

// Distance from the nearest integer, with sign.
__device__ __forceinline__ float off_integer(float p)
{
    return __fsub_rn(p, __fsub_rn(__fadd_rn(p, ROUND), ROUND));
}

// Scalar product with the first three members.
__device__ __forceinline__ float dot(float4 v, float x, float y, float z)
{
    return __fmaf_rn(v.z, z, __fmaf_rn(v.y, y, __fmul_rn(v.x, x)));
}

// Sum over the lanes of a warp, the same in all of them: a tree of fixed shape.  All 32 lanes must call it.
__device__ __forceinline__ float warp_sum(float value)
{
    for (int step = 16; step; step >>= 1) value = __fadd_rn(value, __shfl_xor_sync(ALL_LANES, value, step));
    return value;
}

// exp(-x) for x >= 0, from operations that are IEEE's: the same bits on every device.  Relative error below 3e-7.
__device__ __forceinline__ float exp_of_minus(float x)
{
    if (x > 80.0f) return 0.0f;
    const float n = __fsub_rn(__fadd_rn(__fmul_rn(x, -1.44269504f), ROUND), ROUND);    // of powers of two
    const float r = __fmaf_rn(n, 2.12194440e-4f, __fmaf_rn(n, -0.693359375f, -x));     // ln 2 in two parts
    float p = 1.0f / 720.0f;                                                           // Taylor
    p = __fmaf_rn(p, r, 1.0f / 120.0f);
    p = __fmaf_rn(p, r, 1.0f / 24.0f);
    p = __fmaf_rn(p, r, 1.0f / 6.0f);
    p = __fmaf_rn(p, r, 0.5f);
    p = __fmaf_rn(p, r, 1.0f);
    p = __fmaf_rn(p, r, 1.0f);
    return __fmul_rn(p, __int_as_float(((int)n + 127) << 23));
}

// ln y for normal y > 0, likewise.
__device__ __forceinline__ float log_of(float y)
{
    const int bits = __float_as_int(y);
    int exponent = (bits >> 23) - 127;
    float mantissa = __int_as_float((bits & 0x7fffff) | 0x3f800000);
    if (mantissa > 1.41421356f) {
        mantissa = __fmul_rn(mantissa, 0.5f);
        exponent++;
    }
    const float z = __fdiv_rn(__fsub_rn(mantissa, 1.0f), __fadd_rn(mantissa, 1.0f)), square = __fmul_rn(z, z);
    float p = 2.0f / 9.0f;                                                             // 2 artanh z
    p = __fmaf_rn(p, square, 2.0f / 7.0f);
    p = __fmaf_rn(p, square, 2.0f / 5.0f);
    p = __fmaf_rn(p, square, 2.0f / 3.0f);
    p = __fmul_rn(__fmul_rn(p, square), z);
    return __fmaf_rn((float)exponent, 0.693147181f, __fmaf_rn(z, 2.0f, p));
}
