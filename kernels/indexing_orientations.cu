// SPDX-License-Identifier: GPL-3.0-or-later
// Indexing trials, second part: with a direction of the anchor the cell leaves one angle free.  Turn about each
// direction, keep the best angles, refine the orientations; for all frames of a batch that make this attempt.
//
// A *slot* is a place in the list of these frames.  Grids are as large as for the full batch, so that nothing has
// to be known on the host: blocks beyond the slots in use end at once, and those of slots without directions.
//   turn_about          directions          -> the best angles of each direction and sign
//   pick_orientations   angles of a frame   -> its best orientations of the nominal cell
//   refine_orientations orientations        -> turned and shifted so that they fit the peaks, with scores
//   choose_orientations refined ones        -> those whose cell is fitted: the best, each lattice once
// Twins on the CPU: turn.py, orient.py and search._different in gpuidx/backends/cpu.
//
// Every float sum has the order of its list; results depend on the frame alone.
#include "indexing_fit.cuh"
#include "indexing_same.cuh"

#define TURN_THREADS 128
#define PICK_THREADS 128
#define REFINE_THREADS 128
#define CHOOSE_THREADS 160   // 3 pairs a warp: one orientation against all others at once
// Blocks on a multiprocessor at a time: without a number some versions of NVRTC save registers and spill.
#define REFINE_BLOCKS 8
#define CHOOSE_BLOCKS 6

static_assert(N_MAXIMA <= 2, "a thread of turn_about keeps its two best angles");
static_assert(N_ORIENTATIONS - 1 <= CHOOSE_THREADS / WARP * AT_ONCE, "one orientation meets all others at once");
static_assert(2 * N_DIRECTIONS * N_MAXIMA <= PICK_THREADS, "each angle has a thread");

#define NO_LIMIT 1e9f        // 1/angstrom

// Right-handed frame about a direction: length along u, which may be reversed; ex and ey normal to it.
struct Axes {
    float length;            // of the direction
    float ux, uy, uz, xx, xy, xz, yx, yy, yz;
};

__device__ __forceinline__ Axes axes_about(float4 t, bool reverse)
{
    Axes f;
    f.length = __fsqrt_rn(dot(t, t.x, t.y, t.z));
    const float scale = __fdiv_rn(reverse ? -1.0f : 1.0f, f.length);
    f.ux = __fmul_rn(t.x, scale);
    f.uy = __fmul_rn(t.y, scale);
    f.uz = __fmul_rn(t.z, scale);
    if (fabsf(f.uz) < 0.9f) {
        f.xx = f.uy;
        f.xy = -f.ux;
        f.xz = 0.0f;
    } else {
        f.xx = 0.0f;
        f.xy = f.uz;
        f.xz = -f.uy;
    }
    const float square = __fmaf_rn(f.xz, f.xz, __fmaf_rn(f.xy, f.xy, __fmul_rn(f.xx, f.xx)));
    const float norm = __fdiv_rn(1.0f, __fsqrt_rn(square));
    f.xx = __fmul_rn(f.xx, norm);
    f.xy = __fmul_rn(f.xy, norm);
    f.xz = __fmul_rn(f.xz, norm);
    f.yx = __fsub_rn(__fmul_rn(f.uy, f.xz), __fmul_rn(f.uz, f.xy));
    f.yy = __fsub_rn(__fmul_rn(f.uz, f.xx), __fmul_rn(f.ux, f.xz));
    f.yz = __fsub_rn(__fmul_rn(f.ux, f.xy), __fmul_rn(f.uy, f.xx));
    return f;
}

// What a vector adds to the score of an angle; row2, row3: phase A + B cos + C sin of the index of each row.
__device__ __forceinline__ float turn_part(float4 row2, float4 row3, float2 angle)
{
    const float d2 = off_integer(__fmaf_rn(row2.z, angle.y, __fmaf_rn(row2.y, angle.x, row2.x)));
    const float d3 = off_integer(__fmaf_rn(row3.z, angle.y, __fmaf_rn(row3.y, angle.x, row3.x)));
    const float square = __fmaf_rn(d3, d3, __fmul_rn(d2, d2));
    return fmaxf(__fmaf_rn(-TURN_CURVATURE, square, row2.w), 0.0f);
}

// A block turns the cell about one direction, with one sign: score of every angle, sum of
// max(0, T - 9 (d2^2 + d3^2)) with T = min(1, w (1 - 9 d1^2)), and its two highest local maxima around the circle.
// A thread holds two angles at a time and adds in the order of the vectors.
// Grid (directions x signs, slots): signs is 2 if any anchor is polar, else 1.
// Memory: the vectors of the slot, 16 bytes each; shared memory for their phases and for all scores.
extern "C" __global__ void __launch_bounds__(TURN_THREADS)
turn_about(const Task* __restrict__ tasks, const int* __restrict__ n_task, const VectorSets* __restrict__ sets,
           const float4* __restrict__ turn_vectors,   // (slot, TURN_VECTORS): x y z weight
           const Anchor* __restrict__ anchors,
           const float2* __restrict__ angles,         // cosine and sine, for all numbers of steps
           const float4* __restrict__ directions,     // (slot, N_DIRECTIONS): x y z, units of the anchor's length
           const int* __restrict__ n_direction,       // (slot)
           unsigned long long* __restrict__ maxima)   // (slot, 2 N_DIRECTIONS, N_MAXIMA): score and angle; 0: none
{
    __shared__ float4 row2[TURN_VECTORS];                // A B C of the second row, T
    __shared__ float4 row3[TURN_VECTORS];                // A B C of the third row
    __shared__ float scores[MOST_ANGLES];
    __shared__ int warp_total[TURN_THREADS / WARP];
    __shared__ unsigned long long warp_best[TURN_THREADS / WARP];
    const int slot = blockIdx.y, tid = threadIdx.x, warp = tid >> 5;
    if (slot >= *n_task) return;
    const Anchor* anchor = anchors + tasks[slot].anchor;
    const int n_sign = anchor->polar ? 2 : 1, direction = blockIdx.x / n_sign;
    if (direction >= n_direction[slot]) return;       // pick_orientations does not look at these
    const int n_vector = sets[slot].n_turn, level = sets[slot].turn_level;
    unsigned long long* own = maxima + ((long long)slot * 2 * N_DIRECTIONS + blockIdx.x) * N_MAXIMA;
    const Axes f = axes_about(directions[slot * N_DIRECTIONS + direction], blockIdx.x % n_sign);
    const float* local = anchor->local;
    const float length = __fmul_rn(f.length, anchor->length);
    int n = 0;
    for (int first = 0; first < n_vector; first += TURN_THREADS) {
        const int i = first + tid;
        float4 q = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
        if (i < n_vector) q = turn_vectors[(long long)slot * TURN_VECTORS + i];
        const float along = dot(q, f.ux, f.uy, f.uz), d = off_integer(__fmul_rn(along, length));
        const float most = __fmul_rn(q.w, __fmaf_rn(-TURN_CURVATURE, __fmul_rn(d, d), 1.0f));
        const bool fits = i < n_vector && most >= TURN_LEAST;
        int total;
        const int at = n + prefix_sum(fits, warp_total, &total);
        if (fits) {
            const float x = dot(q, f.xx, f.xy, f.xz), y = dot(q, f.yx, f.yy, f.yz);
            row2[at] = make_float4(__fmul_rn(local[5], along), __fmaf_rn(local[3], x, __fmul_rn(local[4], y)),
                                   __fmaf_rn(local[3], y, -__fmul_rn(local[4], x)), fminf(most, 1.0f));
            row3[at] = make_float4(__fmul_rn(local[8], along), __fmaf_rn(local[6], x, __fmul_rn(local[7], y)),
                                   __fmaf_rn(local[6], y, -__fmul_rn(local[7], x)), 0.0f);
        }
        n += total;
    }
    __syncthreads();
    if (n < FEWEST_VECTORS) {
        if (tid < N_MAXIMA) own[tid] = 0ull;
        return;
    }
    const int n_angle = anchor->turn_steps[level];
    const float2* angle = angles + anchor->turn_start[level];
    for (int first = 0; first < n_angle; first += 2 * TURN_THREADS) {
        const int one = first + tid, other = one + TURN_THREADS;
        const float2 angle_one = angle[min(one, n_angle - 1)], angle_other = angle[min(other, n_angle - 1)];
        float score_one = 0.0f, score_other = 0.0f;
        for (int i = 0; i < n; i++) {
            const float4 a = row2[i], b = row3[i];
            score_one = __fadd_rn(score_one, turn_part(a, b, angle_one));
            score_other = __fadd_rn(score_other, turn_part(a, b, angle_other));
        }
        if (one < n_angle) scores[one] = score_one;
        if (other < n_angle) scores[other] = score_other;
    }
    __syncthreads();
    // key: score, then the complement of the place, so that of equal scores the first angle wins
    unsigned long long best = 0ull, second = 0ull;
    for (int j = tid; j < n_angle; j += TURN_THREADS) {
        const float score = scores[j];
        const bool is_maximum = score > 0.0f && score >= scores[j ? j - 1 : n_angle - 1]
                                && score > scores[j + 1 < n_angle ? j + 1 : 0];
        if (!is_maximum) continue;
        const unsigned long long key = ((unsigned long long)__float_as_uint(score) << 32) | ~(unsigned int)j;
        if (key > best) {
            second = best;
            best = key;
        } else if (key > second)
            second = key;
    }
    for (int rank = 0; rank < N_MAXIMA; rank++) {     // a thread has its own two best: enough for N_MAXIMA = 2
        unsigned long long highest = best;
        for (int step = WARP / 2; step; step >>= 1) highest = max(highest, __shfl_xor_sync(ALL_LANES, highest, step));
        if ((tid & 31) == 0) warp_best[warp] = highest;
        __syncthreads();
        for (int w = 0; w < TURN_THREADS / WARP; w++) highest = max(highest, warp_best[w]);
        if (tid == 0) own[rank] = highest;
        if (best == highest) best = second;           // keys differ, so one thread gives way to its second
        __syncthreads();
    }
}

// Row *row* of the nominal cell at an angle, into V.
__device__ __forceinline__ void turned_row(const float* __restrict__ local, const Axes& f, float2 angle, int row, float* V)
{
    const float lx = local[3 * row], ly = local[3 * row + 1], along = local[3 * row + 2];
    const float x = __fmaf_rn(lx, angle.x, -__fmul_rn(ly, angle.y)), y = __fmaf_rn(lx, angle.y, __fmul_rn(ly, angle.x));
    V[3 * row] = __fmaf_rn(along, f.ux, __fmaf_rn(y, f.yx, __fmul_rn(x, f.xx)));
    V[3 * row + 1] = __fmaf_rn(along, f.uy, __fmaf_rn(y, f.yy, __fmul_rn(x, f.xy)));
    V[3 * row + 2] = __fmaf_rn(along, f.uz, __fmaf_rn(y, f.yz, __fmul_rn(x, f.xz)));
}

// One block a slot: the best angles of all directions as orientations of the nominal cell, best first; of equal
// scores that of the earlier direction.  Memory: 8 bytes for each angle; 1 KB of shared memory.
extern "C" __global__ void __launch_bounds__(PICK_THREADS)
pick_orientations(const Task* __restrict__ tasks, const int* __restrict__ n_task,
                  const VectorSets* __restrict__ sets, const Anchor* __restrict__ anchors,
                  const float2* __restrict__ angles, const float4* __restrict__ directions,
                  const int* __restrict__ n_direction, const unsigned long long* __restrict__ maxima,
                  Lattice* __restrict__ orientations, // (slot, N_ORIENTATIONS): rows from the anchor in cyclic order
                  int* __restrict__ n_orientation)    // (slot)
{
    __shared__ unsigned long long keys[PICK_THREADS];
    const int slot = blockIdx.x, tid = threadIdx.x;
    if (slot >= *n_task) return;
    const Anchor* anchor = anchors + tasks[slot].anchor;
    const int n_sign = anchor->polar ? 2 : 1, n = n_direction[slot] * n_sign * N_MAXIMA;
    const unsigned long long* own = maxima + (long long)slot * 2 * N_DIRECTIONS * N_MAXIMA;
    const unsigned long long maximum = tid < n ? own[tid] : 0ull;
    const unsigned int falling = ~(unsigned int)(maximum >> 32);
    keys[tid] = maximum ? ((unsigned long long)falling << 32) | (unsigned int)tid : ~0ull;
    const int total = __syncthreads_count(maximum != 0ull);
    sort_keys(keys, PICK_THREADS);
    const int count = min(total, N_ORIENTATIONS);
    if (tid < count) {
        const int number = (int)(unsigned int)keys[tid], block = number / N_MAXIMA;
        const unsigned int place = ~(unsigned int)own[number];
        const Axes f = axes_about(directions[slot * N_DIRECTIONS + block / n_sign], block % n_sign);
        const float2 angle = angles[anchor->turn_start[sets[slot].turn_level] + place];
        Lattice* lattice = orientations + slot * N_ORIENTATIONS + tid;
#pragma unroll
        for (int row = 0; row < 3; row++) turned_row(anchor->local, f, angle, row, lattice->V);
        lattice->shift[0] = lattice->shift[1] = lattice->score = 0.0f;
    }
    if (tid == 0) n_orientation[slot] = count;
}

// A warp refines one orientation: turned on the vectors of the turn; then turned and shifted on peaks within a
// growing range, and last on all peaks.  If the rigid turn alone has the better score it is taken.
// Grid (N_ORIENTATIONS / warps of a block, slots).
// Memory: the peaks of the frame about ten times, 16 bytes each.
extern "C" __global__ void __launch_bounds__(REFINE_THREADS, REFINE_BLOCKS)
refine_orientations(const Task* __restrict__ tasks, const int* __restrict__ n_task,
                    const VectorSets* __restrict__ sets, const float4* __restrict__ turn_vectors,
                    const float4* __restrict__ peaks, // (frame, MAX_PEAKS): x y z length
                    const int* __restrict__ n_peak,   // (frame)
                    const float* __restrict__ farthest,      // (frame): length of the longest
                    const float* __restrict__ shift_sigma,   // (frame): error of the beam centre, 1/angstrom
                    const Anchor* __restrict__ anchors,
                    const int* __restrict__ n_orientation,   // (slot)
                    Lattice* __restrict__ orientations)      // (slot, N_ORIENTATIONS): changed
{
    __shared__ Fit fits[REFINE_THREADS / WARP];
    const int slot = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int number = blockIdx.x * (REFINE_THREADS / WARP) + warp;
    if (slot >= *n_task) return;
    if (number >= n_orientation[slot]) return;        // whole warps; none waits for another
    Fit* fit = fits + warp;
    Lattice* own = orientations + slot * N_ORIENTATIONS + number;
    const int frame = tasks[slot].frame, n = n_peak[frame], n_vector = sets[slot].n_turn;
    const Anchor* anchor = anchors + tasks[slot].anchor;
    const float4* list = peaks + (long long)frame * MAX_PEAKS;
    if (lane < 9) fit->V[lane] = own->V[lane];
    if (lane < 2) fit->shift[lane] = 0.0f;
    __syncwarp(ALL_LANES);
    const float end = farthest[frame], everything = __fmul_rn(end, 1.01f);
    const float cycles = anchor->turn_cycles[sets[slot].turn_level];
    const float turn_error = __fdiv_rn(STEP, cycles), turn_ratio = __fdiv_rn(INDEX_SIGMA, turn_error);
    const float shift_ratio = __fdiv_rn(INDEX_SIGMA, shift_sigma[frame]);
    const float turn_weight = __fmul_rn(turn_ratio, turn_ratio);
    float from = ORIENTATION_RANGE_0;
    if (tasks[slot].kind == DIRECT) from = fmaxf(from, __fmul_rn(ORIENTATION_RANGE_1, cycles));
    float limit = __fdiv_rn(from, anchor->longest), score = 0.0f, rigid = 0.0f, shift_weight = 0.0f;
    bool last = false;
    for (int round = 0;; round++) {
        const bool on_vectors = round < 2;
        sum_up(fit, on_vectors ? turn_vectors + (long long)slot * TURN_VECTORS : list, on_vectors ? n_vector : n, on_vectors,
               on_vectors ? NO_LIMIT : last ? everything : fminf(limit, everything),
               last ? ORIENTATION_LAST_TOLERANCE : ORIENTATION_TOLERANCE, lane);
        turn_step(fit, turn_weight, shift_weight, lane);
        if (round == 1 || last) score = likelihood<N_COARSE_SIGMAS>(fit->V, fit->shift, list, n, 3, lane);
        if (last) break;
        if (round == 1) {
            rigid = score;
            if (lane < 9) fit->before[lane] = fit->V[lane];
            shift_weight = __fmul_rn(shift_ratio, shift_ratio);
        } else if (round > 1) {
            last = limit > end;
            limit = __fmul_rn(limit, ORIENTATION_GROWTH);
        }
        __syncwarp(ALL_LANES);
    }
    const bool back = !(score >= rigid);              // also if it is no number
    if (lane < 9)
        own->V[lane] = back ? fit->before[lane] : fit->V[lane];
    else if (lane < 11)
        own->shift[lane - 9] = back ? 0.0f : fit->shift[lane - 9];
    else if (lane == 11)
        own->score = back ? rigid : score;
}

// One block a slot: the first N_CELLS by score that are not the same lattice as an earlier one.
// The best that is left is compared with all others at once, three pairs a warp.  Memory: 36 bytes an orientation.
extern "C" __global__ void __launch_bounds__(CHOOSE_THREADS, CHOOSE_BLOCKS)
choose_orientations(const int* __restrict__ n_task, const Lattice* __restrict__ orientations,
                    const int* __restrict__ n_orientation,
                    int* __restrict__ chosen,         // (slot, N_CELLS): number of the orientation, best first
                    int* __restrict__ n_chosen)       // (slot)
{
    __shared__ int order[N_ORIENTATIONS];
    __shared__ unsigned int twins[N_CELLS];
    const int slot = blockIdx.x, tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    if (slot >= *n_task) return;
    const int n = n_orientation[slot];
    const Lattice* own = orientations + slot * N_ORIENTATIONS;
    if (tid < n) {
        const float score = own[tid].score;
        int rank = 0;
        for (int i = 0; i < n; i++) rank += own[i].score > score || (own[i].score == score && i < tid);
        order[rank] = tid;
    }
    if (tid < N_CELLS) twins[tid] = 0u;
    __syncthreads();
    const int pair = warp * AT_ONCE + min(lane / 9, AT_ONCE - 1), element = lane % 9, other = pair + 1;
    unsigned int left = (1u << n) - 1u;               // places in the order
    int count = 0;
    while (left && count < N_CELLS) {
        const int place = __ffs(left) - 1;
        left &= left - 1u;
        if (tid == 0) chosen[slot * N_CELLS + count] = order[place];
        const bool asked = left >> other & 1u;
        const double first = own[order[place]].V[element], second = asked ? own[order[other]].V[element] : first;
        if (agree(second, first, TWIN_TRACE, lane) && asked && element == 0) atomicOr(&twins[count], 1u << other);
        __syncthreads();
        left &= ~twins[count];
        count++;
    }
    if (tid == 0) n_chosen[slot] = count;
}
