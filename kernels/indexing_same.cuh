// SPDX-License-Identifier: GPL-3.0-or-later
// Whether two bases describe one lattice, for AT_ONCE pairs in a warp.  Twin: score.agree in gpuidx/backends/cpu.
//
// A 3x3 matrix is spread over nine lanes, lane 3 i + j of the nine having the element (i, j); so it takes two
// registers and no memory.  The last lanes of the warp repeat some of the last nine.
#pragma once
#include "indexing.cuh"

#define AT_ONCE 3

#define POLAR_ROUNDS 8       // of Newton's iteration, at most
#define POLAR_CHANGE 1e-12

// Element (row, column), taken modulo 3, of the matrix that a lane has a part of.
__device__ __forceinline__ double element_of(double matrix, int row, int column, int lane)
{
    const int first = 9 * min(lane / 9, AT_ONCE - 1);
    return __shfl_sync(ALL_LANES, matrix, first + 3 * (row % 3) + column % 3);
}

__device__ __forceinline__ double product(double left, double right, int i, int j, int lane)
{
    double sum = 0.0;
#pragma unroll
    for (int k = 0; k < 3; k++) sum += element_of(left, i, k, lane) * element_of(right, k, j, lane);
    return sum;
}

// Element (j, i) of the adjugate: the cofactor of the element that the lane has.
__device__ __forceinline__ double cofactor(double matrix, int i, int j, int lane)
{
    return element_of(matrix, i + 1, j + 1, lane) * element_of(matrix, i + 2, j + 2, lane)
           - element_of(matrix, i + 1, j + 2, lane) * element_of(matrix, i + 2, j + 1, lane);
}

__device__ __forceinline__ double determinant(double matrix, double cofactors, int lane)
{
    double sum = 0.0;
#pragma unroll
    for (int k = 0; k < 3; k++) sum += element_of(matrix, 0, k, lane) * element_of(cofactors, 0, k, lane);
    return sum;
}

// Element of the inverse, transposed; infinite or NaN if there is none.
__device__ __forceinline__ double inverse_transposed(double matrix, int i, int j, int lane)
{
    const double cofactors = cofactor(matrix, i, j, lane);
    return cofactors / determinant(matrix, cofactors, lane);
}

// Whether the bases V and W, of the same hand, are one lattice within an angle; *least_trace* is 1 + 2 cos of it.
// v, w: the lane's elements; the answer is the same in the nine lanes of a pair.  All 32 lanes must call it.
__device__ __forceinline__ bool agree(double v, double w, double least_trace, int lane)
{
    const int i = lane % 9 / 3, j = lane % 3, first = 9 * min(lane / 9, AT_ONCE - 1);
    const double back = inverse_transposed(w, i, j, lane);
    const double inverse = element_of(back, j, i, lane);
    const double fraction = product(v, inverse, i, j, lane), whole = rint(fraction);
    const unsigned int near = __ballot_sync(ALL_LANES, fabs(fraction - whole) < (double)SAME_FRACTION);
    const double whole_cofactors = cofactor(whole, i, j, lane), det = determinant(whole, whole_cofactors, lane);
    const bool may = (near >> first & 0x1ffu) == 0x1ffu && det == 1.0;
    if (!__any_sync(ALL_LANES, may)) return false;
    // V = M W F' with whole M: the strain and turn F brings W into the other basis of V
    const double undone = element_of(whole_cofactors, j, i, lane);        // inverse of M: its determinant is 1
    double F = product(product(inverse, undone, i, j, lane), v, i, j, lane);
    // rotation next to F: Higham (1986), SIAM J. Sci. Stat. Comput. 7, 1160
    for (int round = 0; round < POLAR_ROUNDS; round++) {
        const double mean = 0.5 * (F + inverse_transposed(F, i, j, lane));
        const bool changed = may && fabs(mean - F) > POLAR_CHANGE;
        F = mean;
        if (!__any_sync(ALL_LANES, changed)) break;
    }
    const double trace = element_of(F, 0, 0, lane) + element_of(F, 1, 1, lane) + element_of(F, 2, 2, lane);
    return may && trace > least_trace;
}
