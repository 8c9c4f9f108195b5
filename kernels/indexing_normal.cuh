// SPDX-License-Identifier: GPL-3.0-or-later
// Least squares of one lattice vector on the planes of its lattice, by a warp; and the score of a direction.
//
// Lane k adds items k, k + 32, … and a tree adds the lanes.  Twins: scan.py and unknown_vectors.py in gpuidx/backends/cpu.
#pragma once
#include "indexing.cuh"

// A vector in units of 1 / L.
__device__ __forceinline__ float4 scaled(float4 vector, float length)
{
    return make_float4(__fmul_rn(vector.x, length), __fmul_rn(vector.y, length), __fmul_rn(vector.z, length), vector.w);
}

// What a vector that is d off an integer gives to the score.
__device__ __forceinline__ float direction_score(float weight, float d)
{
    return fmaxf(__fmaf_rn(__fmul_rn(-SCAN_CURVATURE, weight), __fmul_rn(d, d), weight), 0.0f);
}

// Sums of a least-squares round: of weighted squares of the vectors, and of residuals.
struct NormalSums {
    float xx, xy, xz, yy, yz, zz, x, y, z;
};

// Sums over the vectors that are less than `tolerance` off an integer; the same in all lanes of the warp.
// weight_of(vector): its own weight.
template <class Weight>
__device__ __forceinline__ NormalSums sum_normals(const float4* vectors, int n, float4 t, float tolerance, const Weight& weight_of)
{
    const float inverse = __fdiv_rn(1.0f, __fmul_rn(tolerance, tolerance));
    NormalSums sums = {0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f, 0.0f};
    for (int i = threadIdx.x & 31; i < n; i += 32) {
        const float4 v = vectors[i];
        const float d = off_integer(dot(v, t.x, t.y, t.z));
        const float weight = __fmul_rn(weight_of(v), __fmaf_rn(-inverse, __fmul_rn(d, d), 1.0f));
        if (!(weight > 0.0f)) continue;
        const float wx = __fmul_rn(weight, v.x), wy = __fmul_rn(weight, v.y), wz = __fmul_rn(weight, v.z);
        sums.xx = __fmaf_rn(wx, v.x, sums.xx);
        sums.xy = __fmaf_rn(wx, v.y, sums.xy);
        sums.xz = __fmaf_rn(wx, v.z, sums.xz);
        sums.yy = __fmaf_rn(wy, v.y, sums.yy);
        sums.yz = __fmaf_rn(wy, v.z, sums.yz);
        sums.zz = __fmaf_rn(wz, v.z, sums.zz);
        sums.x = __fmaf_rn(-wx, d, sums.x);
        sums.y = __fmaf_rn(-wy, d, sums.y);
        sums.z = __fmaf_rn(-wz, d, sums.z);
    }
    sums.xx = warp_sum(sums.xx);
    sums.xy = warp_sum(sums.xy);
    sums.xz = warp_sum(sums.xz);
    sums.yy = warp_sum(sums.yy);
    sums.yz = warp_sum(sums.yz);
    sums.zz = warp_sum(sums.zz);
    sums.x = warp_sum(sums.x);
    sums.y = warp_sum(sums.y);
    sums.z = warp_sum(sums.z);
    return sums;
}

// A normal matrix and a right side.
struct Normal {
    double xx, xy, xz, yy, yz, zz, x, y, z;
};

// Adds the solution to t; a longer step than `longest` is shortened to it.
__device__ __forceinline__ void move_by_solution(const Normal& m, double longest, float4* t)
{
    const double c_xx = m.yy * m.zz - m.yz * m.yz, c_xy = m.xz * m.yz - m.xy * m.zz;    // cofactors
    const double c_xz = m.xy * m.yz - m.xz * m.yy, c_yy = m.xx * m.zz - m.xz * m.xz;
    const double c_yz = m.xy * m.xz - m.xx * m.yz, c_zz = m.xx * m.yy - m.xy * m.xy;
    const double scale = 1.0 / (m.xx * c_xx + m.xy * c_xy + m.xz * c_xz);
    const double sx = (c_xx * m.x + c_xy * m.y + c_xz * m.z) * scale;
    const double sy = (c_xy * m.x + c_yy * m.y + c_yz * m.z) * scale;
    const double sz = (c_xz * m.x + c_yz * m.y + c_zz * m.z) * scale;
    const double step = sqrt(sx * sx + sy * sy + sz * sz);
    const double shorten = step > longest ? longest / step : 1.0;
    t->x = (float)(t->x + shorten * sx);
    t->y = (float)(t->y + shorten * sy);
    t->z = (float)(t->z + shorten * sz);
}
