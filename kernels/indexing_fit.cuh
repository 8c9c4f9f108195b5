// SPDX-License-Identifier: GPL-3.0-or-later
// Least squares on indices, and how well a lattice explains the peaks; each done by one warp.
//
// Rows v_k of a basis V give a vector q the indices h_k = q . v_k; d_k is the distance of h_k from an integer.
// Every unknown is a linear map, dh_k = sum of c (q, 1)_a V[k][b] over one or two entries (c, a, b).  With
// S = sum w (q, 1)(q, 1)', R = sum w (q, 1) d' and G = V' V the normal matrix is sum c c' S[a][a'] G[b][b'], the
// right side -sum c V[k][b] R[a][k]: 28 sums for each vector, however many unknowns there are.
// Twins on the CPU: normal.py, orient.turn_step, cell_fit.cell_step and score.likelihood in gpuidx/backends/cpu.
//
// Sums are float32 in the order of the list; equations are solved in double.
#pragma once
#include "indexing.cuh"

#define WARP 32
#define STAGED 13            // words of a staged vector: lanes that read one word of each meet no bank twice
#define N_TURN_UNKNOWNS 5    // turn about x, y, z; shift of q in x and y
#define N_CELL_UNKNOWNS 9    // V <- V (1 + E)', E in rows
#define SUM_R 16             // where R begins among the sums
#define SUM_COUNT 28         // where the number of vectors is
#define LOG_FACTORS 8        // probabilities multiplied before a logarithm is taken; the product stays in range
// Of the widest Gaussian of the score: 1 / 2 s^2, and half of its greatest density, 1 / 2 (2 pi)^1.5 s^3; and what
// an axis divides that by.
#define SCORE_EXPONENT (0.5f / (SCORE_SIGMAS_0 * SCORE_SIGMAS_0))
#define SCORE_DENSITY (0.5f / (15.7496099f * SCORE_SIGMAS_0 * SCORE_SIGMAS_0 * SCORE_SIGMAS_0))
#define SCORE_WIDTH (2.50662827f * SCORE_SIGMAS_0)

// A lattice, in whichever order of rows is said where it is used.
struct Lattice {
    float V[9];              // rows, angstrom
    float shift[2];          // of all q, 1/angstrom
    float score;
};

// What a warp keeps in shared memory while it fits.
struct Fit {
    double matrix[N_CELL_UNKNOWNS * (N_CELL_UNKNOWNS + 1)];    // normal matrix, right side in the last column
    double gram[9];          // G
    double strain[9];
    float sums[32];          // S in rows of 4; R in rows of 3; number of vectors; three without meaning
    float staged[WARP * STAGED];
    float V[9];              // rows, angstrom
    float shift[2];          // taken from every vector first, 1/angstrom
    float before[9];         // rows to go back to
};

// What a lattice makes of a peak: the peak less the shift, its three distances d, and |d|^2.
struct Misfit {
    float4 q;
    float d[3], square;
};

__device__ __forceinline__ Misfit misfit_of(float4 q, const float* V, const float* shift)
{
    Misfit m;
    m.q = q;
    m.q.x = __fsub_rn(q.x, shift[0]);
    m.q.y = __fsub_rn(q.y, shift[1]);
#pragma unroll
    for (int k = 0; k < 3; k++) m.d[k] = off_integer(dot(m.q, V[3 * k], V[3 * k + 1], V[3 * k + 2]));
    m.square = __fmaf_rn(m.d[2], m.d[2], __fmaf_rn(m.d[1], m.d[1], __fmul_rn(m.d[0], m.d[0])));
    return m;
}

// Weighted sums over the vectors that fit: |d| <= tolerance and not farther than *limit*; weight
// w (1 - |d|^2 / tolerance^2), where w is the fourth component if *weighted*, else 1.
// 32 vectors at a time lie in shared memory; each lane owns one sum and adds in the order of the list.
__device__ __forceinline__ void sum_up(Fit* fit, const float4* __restrict__ vectors, int n, bool weighted,
                                       float limit, float tolerance, int lane)
{
    const float square_limit = __fmul_rn(limit, limit), square_tolerance = __fmul_rn(tolerance, tolerance);
    const float inverse = __fdiv_rn(1.0f, square_tolerance);
    // words of a staged vector: w q (3), w, 1 if it fits, q (3), 1, d (3)
    const int one = lane < SUM_R ? lane >> 2 : lane < SUM_COUNT ? (lane - SUM_R) / 3 : 4;
    const int other = lane < SUM_R ? 5 + (lane & 3) : lane < SUM_COUNT ? 9 + (lane - SUM_R) % 3 : 8;
    float sum = 0.0f;
#pragma unroll 1
    for (int first = 0; first < n; first += WARP) {
        if (first + lane < n) {
            float* own = fit->staged + lane * STAGED;
            const float4 vector = vectors[first + lane];
            const Misfit m = misfit_of(vector, fit->V, fit->shift);
            const bool fits = m.square <= square_tolerance && dot(m.q, m.q.x, m.q.y, m.q.z) <= square_limit;
            const float share = __fmaf_rn(-m.square, inverse, 1.0f);
            const float weight = fits ? __fmul_rn(weighted ? vector.w : 1.0f, share) : 0.0f;
            own[0] = __fmul_rn(weight, m.q.x);
            own[1] = __fmul_rn(weight, m.q.y);
            own[2] = __fmul_rn(weight, m.q.z);
            own[3] = weight;
            own[4] = fits ? 1.0f : 0.0f;
            own[5] = m.q.x;
            own[6] = m.q.y;
            own[7] = m.q.z;
            own[8] = 1.0f;
            own[9] = m.d[0];
            own[10] = m.d[1];
            own[11] = m.d[2];
        }
        __syncwarp(ALL_LANES);
        const int count = min(n - first, WARP);
#pragma unroll 4
        for (int i = 0; i < count; i++) {
            const float* row = fit->staged + i * STAGED;
            sum = __fmaf_rn(row[one], row[other], sum);
        }
        __syncwarp(ALL_LANES);
    }
    fit->sums[lane] = sum;
    if (lane < 9) {
        const int a = lane / 3, b = lane - 3 * a;
        const float* V = fit->V;
        fit->gram[lane] = (double)V[a] * V[b] + (double)V[3 + a] * V[3 + b] + (double)V[6 + a] * V[6 + b];
    }
    __syncwarp(ALL_LANES);
}

// Entry *number* (0 or 1) of an unknown: c is returned, 0 if there is no such entry.
template <int N> __device__ __forceinline__ int entry(int unknown, int number, int& a, int& b)
{
    if (N == N_CELL_UNKNOWNS) {
        a = unknown / 3;
        b = unknown - 3 * a;
        return number == 0;
    }
    if (unknown < 3) {                                // dh_k = (v_k x q) of a turn
        const int s = unknown == 2 ? 0 : unknown + 1, t = unknown == 0 ? 2 : unknown - 1;
        a = number ? s : t;
        b = number ? t : s;
        return number ? -1 : 1;
    }
    a = 3;
    b = unknown - 3;
    return number ? 0 : -1;
}

// The normal equations from the sums; an element is made by one lane.
template <int N> __device__ __forceinline__ void fill_equations(Fit* fit, int lane)
{
    const int n_entry = N == N_CELL_UNKNOWNS ? 1 : 2;
#pragma unroll 1
    for (int element = lane; element < N * (N + 1); element += WARP) {
        const int row = element / (N + 1), column = element - row * (N + 1);
        double value = 0.0;
#pragma unroll 1
        for (int i = 0; i < n_entry; i++) {
            int a, b;
            const int c = entry<N>(row, i, a, b);
            double part = 0.0;
            if (column == N) {
#pragma unroll 1
                for (int k = 0; k < 3; k++) part -= (double)fit->V[3 * k + b] * (double)fit->sums[SUM_R + 3 * a + k];
            } else {
#pragma unroll 1
                for (int j = 0; j < n_entry; j++) {
                    int e, f;
                    const int g = entry<N>(column, j, e, f);
                    const int place = a < e ? 4 * a + e : 4 * e + a;     // S from one triangle: symmetric to the bit
                    if (g) part += (double)g * ((double)fit->sums[place] * fit->gram[3 * b + f]);
                }
            }
            value += (double)c * part;
        }
        fit->matrix[element] = value;
    }
    __syncwarp(ALL_LANES);
}

// Gauss-Jordan elimination with the first *n_pivot* unknowns; the others are held at 0.  The solution is in the
// last column.  False if the matrix is not positive definite, or holds NaN.
template <int N> __device__ __forceinline__ bool solve(double* matrix, int n_pivot, int lane)
{
    const int width = N + 1, size = N * width, share = (size + WARP - 1) / WARP;
#pragma unroll 1                                      // unrolled it takes 130 registers
    for (int pivot = 0; pivot < n_pivot; pivot++) {
        const double value = matrix[pivot * width + pivot];
        if (!(value > 0.0)) return false;             // the same for the warp
        const double inverse = 1.0 / value;
        double next[share];
#pragma unroll
        for (int i = 0; i < share; i++) {
            const int element = lane + WARP * i, row = element / width, column = element - row * width;
            next[i] = 0.0;
            if (element < size) {
                const double above = matrix[pivot * width + column] * inverse;
                next[i] = row == pivot ? above : matrix[element] - matrix[row * width + pivot] * above;
            }
        }
        __syncwarp(ALL_LANES);
#pragma unroll
        for (int i = 0; i < share; i++)
            if (lane + WARP * i < size) matrix[lane + WARP * i] = next[i];
        __syncwarp(ALL_LANES);
    }
    return true;
}

// One Gauss-Newton step of a rigid turn and, if *shift_weight* is not 0, a shift, from the sums.
// turn_weight, shift_weight: of the prior "no turn, no shift".
__device__ __forceinline__ void turn_step(Fit* fit, float turn_weight, float shift_weight, int lane)
{
    if (fit->sums[SUM_COUNT] < (float)ORIENTATION_FEWEST) return;    // the same for the warp
    const int width = N_TURN_UNKNOWNS + 1, last = N_TURN_UNKNOWNS;
    fill_equations<N_TURN_UNKNOWNS>(fit, lane);
    double* M = fit->matrix;
    const double ridge = (double)ORIENTATION_RIDGE * (M[0] + M[width + 1] + M[2 * (width + 1)]);
    __syncwarp(ALL_LANES);
    if (lane < 3)
        M[lane * (width + 1)] += ridge + (double)turn_weight;
    else if (lane < N_TURN_UNKNOWNS) {
        M[lane * (width + 1)] += (double)shift_weight;
        M[lane * width + last] -= (double)shift_weight * (double)fit->shift[lane - 3];
    }
    __syncwarp(ALL_LANES);
    if (!solve<N_TURN_UNKNOWNS>(M, shift_weight > 0.0f ? N_TURN_UNKNOWNS : 3, lane)) return;
    // Cayley's form of the turn: an exact rotation, without a sine
    double x = M[last], y = M[width + last], z = M[2 * width + last];
    const double square = x * x + y * y + z * z, most = ORIENTATION_STEP;
    const double half = sqrt(square) > most ? 0.5 * (most / sqrt(square)) : 0.5;
    x *= half;
    y *= half;
    z *= half;
    const double scale = 2.0 / (1.0 + x * x + y * y + z * z);
    if (lane < 3) {
        float* row = fit->V + 3 * lane;
        const double a = row[0], b = row[1], c = row[2];
        const double p = y * c - z * b, q = z * a - x * c, r = x * b - y * a;
        row[0] = (float)(a + scale * (p + y * r - z * q));
        row[1] = (float)(b + scale * (q + z * p - x * r));
        row[2] = (float)(c + scale * (r + x * q - y * p));
    } else if (lane < N_TURN_UNKNOWNS && shift_weight > 0.0f)
        fit->shift[lane - 3] = (float)((double)fit->shift[lane - 3] + M[lane * width + last]);
    __syncwarp(ALL_LANES);
}

// One Gauss-Newton step of a free cell, V <- V (1 + E)', from the sums.  The prior holds Green's strain
// (V' inv(V0 V0') V - 1) / 2 near 0; metric_inverse: inv(V0 V0') of the nominal rows.
__device__ __forceinline__ void cell_step(Fit* fit, const float* __restrict__ metric_inverse, int lane)
{
    if (fit->sums[SUM_COUNT] < (float)CELL_FEWEST) return;           // the same for the warp
    const int width = N_CELL_UNKNOWNS + 1, last = N_CELL_UNKNOWNS;
    const double weight = CELL_WEIGHT;
    double* M = fit->matrix;
    float* V = fit->V;
    if (lane < 9) {
        const int a = lane / 3, b = lane - 3 * a;
        double sum = a == b ? -1.0 : 0.0;
#pragma unroll 1
        for (int k = 0; k < 3; k++) {
            const float* row = metric_inverse + 3 * k;
            sum += (double)V[3 * k + a] * ((double)row[0] * V[b] + (double)row[1] * V[3 + b] + (double)row[2] * V[6 + b]);
        }
        fit->strain[lane] = 0.5 * sum;
    }
    fill_equations<N_CELL_UNKNOWNS>(fit, lane);
#pragma unroll 1
    for (int element = lane; element < N_CELL_UNKNOWNS * width; element += WARP) {
        const int u = element / width, column = element - u * width, a = u / 3, b = u - 3 * a;
        if (column == last)
            M[element] -= weight * fit->strain[u];
        else if (column == u || column == 3 * b + a)
            M[element] += a == b ? weight : 0.5 * weight;
    }
    __syncwarp(ALL_LANES);
    double trace = 0.0;
#pragma unroll 1
    for (int u = 0; u < N_CELL_UNKNOWNS; u++) trace += M[u * (width + 1)];
    __syncwarp(ALL_LANES);
    if (lane < N_CELL_UNKNOWNS) M[lane * (width + 1)] += (double)CELL_RIDGE * trace;
    __syncwarp(ALL_LANES);
    if (!solve<N_CELL_UNKNOWNS>(M, N_CELL_UNKNOWNS, lane)) return;
    double moved = 0.0;
    if (lane < 9) {
        const int k = lane / 3, a = lane - 3 * k;
        moved = V[lane];
#pragma unroll 1
        for (int b = 0; b < 3; b++) moved += M[(3 * a + b) * width + last] * (double)V[3 * k + b];
    }
    __syncwarp(ALL_LANES);
    if (lane < 9) V[lane] = (float)moved;
    __syncwarp(ALL_LANES);
}

// Log-likelihood ratio of "half of the peaks lie about lattice points" and "none does": sum of
// ln(1/2 + 1/2 exp(-|d|^2 / 2 s^2) / ((2 pi)^1.5 s^3)), the largest over the first *n_width* widths s.
// Each width is half of the one before, so its exponential is the fourth power.  The same in all lanes.
// Of *n_axes* rows the indices count as evidence; for each of the others the density is 1, not that of a Gaussian.
// Lane l takes peaks l, l + 32, ..., the sums of the lanes are added as a tree.
template <int n_width>
__device__ __forceinline__ float likelihood(const float* V, const float* shift, const float4* __restrict__ peaks, int n,
                                            int n_axes, int lane)
{
    float highest = SCORE_DENSITY, growth = 8.0f;
    for (int k = n_axes; k < 3; k++) {
        highest = __fmul_rn(highest, SCORE_WIDTH);
        growth = __fmul_rn(0.5f, growth);
    }
    float sum[n_width], product[n_width];
#pragma unroll
    for (int s = 0; s < n_width; s++) {
        sum[s] = 0.0f;
        product[s] = 1.0f;
    }
    int factors = 0;
#pragma unroll 1
    for (int i = lane; i < n; i += WARP) {
        const Misfit m = misfit_of(peaks[i], V, shift);
        float gauss = exp_of_minus(__fmul_rn(m.square, SCORE_EXPONENT)), density = highest;
#pragma unroll
        for (int s = 0; s < n_width; s++) {
            product[s] = __fmul_rn(product[s], __fmaf_rn(density, gauss, 0.5f));
            gauss = __fmul_rn(gauss, gauss);
            gauss = __fmul_rn(gauss, gauss);
            density = __fmul_rn(density, growth);
        }
        if (++factors == LOG_FACTORS || i + WARP >= n) {
#pragma unroll
            for (int s = 0; s < n_width; s++) {
                sum[s] = __fadd_rn(sum[s], log_of(product[s]));
                product[s] = 1.0f;
            }
            factors = 0;
        }
    }
    float best = warp_sum(sum[0]);
#pragma unroll
    for (int s = 1; s < n_width; s++) best = fmaxf(best, warp_sum(sum[s]));
    return best;
}
