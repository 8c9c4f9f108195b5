// SPDX-License-Identifier: GPL-3.0-or-later
// Indexing trials, last part: fit free cells to the best orientations, accept or refuse what comes out, and say
// what is tried next for each frame.
//
//   begin_trials        number of peaks   -> which frames are tried at all
//   fit_cells           orientations      -> lattices with free cells, two for each orientation, with scores
//   finish_attempt      lattices          -> the frame's best so far; its next attempt, among which peaks
//
// A *trial* is a series of attempts to find one lattice among some peaks: the first among all peaks; further ones
// among what is left of them when the peaks that found lattices explain are taken out (--multi); repetitions
// without the weakest peaks (--retry).  The plan has the attempts of these three, one behind the other.
// Twins on the CPU: cell_fit.py, score.py, search.find_lattice and trials.py in gpuidx/backends/cpu.
//
// A *slot* is a place in the list of frames that an attempt is made for; blocks beyond those in use end at once.
// Every float sum has the order of its list, counts are whole numbers; results depend on the frame alone.
#include "indexing_fit.cuh"
#include "indexing_same.cuh"

#define BEGIN_THREADS 128
#define FIT_THREADS 128
#define FINISH_THREADS 256
// Blocks on a multiprocessor at a time: without a number some versions of NVRTC save registers and spill.
#define FIT_BLOCKS 8
#define FINISH_BLOCKS 4

#define LATTICE_WORDS 12
#define NOTHING -1e9f        // score of no lattice
#define NO_ATTEMPT -1        // there is nothing more to try
#define NO_PEAK 0x7fffffff

// What is known of a frame.
struct FrameTrials {
    Lattice found[MOST_LATTICES];
    Lattice best;            // accepted in the trial under way
    int n_found, n_tried;    // lattices; trials that are over
};

__device__ __forceinline__ void copy_word(Lattice* to, const Lattice* from, int word)
{
    ((float*)to)[word] = ((const float*)from)[word];
}

// One thread a frame: frames with enough peaks begin with the first attempt of the plan, the others are done.
// Grid (ceil(frames / BEGIN_THREADS)).
extern "C" __global__ void __launch_bounds__(BEGIN_THREADS)
begin_trials(const int* __restrict__ n_given,         // (frame): peaks of the search
             FrameTrials* __restrict__ trials,        // (frame)
             int* __restrict__ n_used,                // (frame): first peaks of the search that a trial may use
             int* __restrict__ next_attempt,          // (frame): number in the plan, or NO_ATTEMPT
             int n_frame, int min_peaks)
{
    const int frame = blockIdx.x * BEGIN_THREADS + threadIdx.x;
    if (frame >= n_frame) return;
    FrameTrials* own = trials + frame;
    float* words = (float*)own;                       // what is not found is copied back, too
    for (int i = 0; i < (MOST_LATTICES + 1) * LATTICE_WORDS; i++) words[i] = 0.0f;
    own->best.score = NOTHING;
    own->n_found = own->n_tried = 0;
    n_used[frame] = n_given[frame];
    next_attempt[frame] = n_given[frame] > 0 && n_given[frame] >= min_peaks ? 0 : NO_ATTEMPT;
}

// Whether no row of V has become much longer or shorter than it was; the same for the whole warp.
__device__ __forceinline__ bool is_near(const float* V, const Lattice* start, int lane)
{
    bool near = true;
    if (lane < 3) {
        const float *now = V + 3 * lane, *before = start->V + 3 * lane;
        const float a = __fmaf_rn(now[2], now[2], __fmaf_rn(now[1], now[1], __fmul_rn(now[0], now[0])));
        const float b = __fmaf_rn(before[2], before[2], __fmaf_rn(before[1], before[1], __fmul_rn(before[0], before[0])));
        near = a <= __fmul_rn(MOST_STRETCH * MOST_STRETCH, b) && b <= __fmul_rn(MOST_STRETCH * MOST_STRETCH, a);
    }
    return __all_sync(ALL_LANES, near);
}

// A warp fits a free cell to the peaks, held near the nominal one by a prior on the strain.  Each orientation
// gets two warps: one takes all peaks from the beginning, the other first grows from the low-angle peaks.  The
// first way loses wrong cells, the second wrecks cells with one very long axis.
// Grid (2 N_CELLS / warps of a block, slots).  Memory: the peaks of the frame up to fifteen times, 16 bytes each.
extern "C" __global__ void __launch_bounds__(FIT_THREADS, FIT_BLOCKS)
fit_cells(const Task* __restrict__ tasks, const int* __restrict__ n_task,
          const float4* __restrict__ peaks,           // (frame, MAX_PEAKS): x y z length
          const int* __restrict__ n_peak,             // (frame)
          const float* __restrict__ farthest,         // (frame): length of the longest
          const Anchor* __restrict__ anchors,
          const Lattice* __restrict__ orientations,   // (slot, N_ORIENTATIONS)
          const int* __restrict__ chosen,             // (slot, N_CELLS)
          const int* __restrict__ n_chosen,           // (slot)
          Lattice* __restrict__ fitted)               // (slot, 2 N_CELLS)
{
    __shared__ Fit fits[FIT_THREADS / WARP];
    const int slot = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const int number = blockIdx.x * (FIT_THREADS / WARP) + warp, cell = number >> 1;
    if (slot >= *n_task) return;
    if (cell >= n_chosen[slot]) return;               // whole warps; none waits for another
    Fit* fit = fits + warp;
    const Lattice* start = orientations + slot * N_ORIENTATIONS + chosen[slot * N_CELLS + cell];
    Lattice* own = fitted + slot * 2 * N_CELLS + number;
    const int frame = tasks[slot].frame, n = n_peak[frame];
    const Anchor* anchor = anchors + tasks[slot].anchor;
    const float4* list = peaks + (long long)frame * MAX_PEAKS;
    if (lane < 9) fit->V[lane] = start->V[lane];
    if (lane < 2) fit->shift[lane] = start->shift[lane];
    __syncwarp(ALL_LANES);
    const float end = farthest[frame];
    float limit = __fdiv_rn(CELL_RANGE, anchor->longest);
    bool grows = number & 1, begun = false;
    for (int round = 0; round < 3;) {
        if (grows && begun && !(limit < end)) grows = false;
        float tolerance = CELL_GROW_TOLERANCE;
        if (!grows) tolerance = round == 0 ? CELL_TOLERANCE_0 : round == 1 ? CELL_TOLERANCE_1 : CELL_TOLERANCE_2;
        sum_up(fit, list, n, false, grows ? limit : __fmul_rn(end, 1.01f), tolerance, lane);
        cell_step(fit, anchor->metric_inverse, lane);
        if (!grows) round++;
        if (begun) limit = __fmul_rn(limit, CELL_GROWTH);
        begun = true;
    }
    float score = likelihood<N_SCORE_SIGMAS>(fit->V, fit->shift, list, n, 3, lane);
    if (!is_near(fit->V, start, lane)) score = NOTHING;
    if (lane < 9)
        own->V[lane] = fit->V[lane];
    else if (lane < 11)
        own->shift[lane - 9] = fit->shift[lane - 9];
    else if (lane == 11)
        own->score = score;
}

// Indices of a peak, and what they say.
struct Indices {
    float h[3];
    bool well;               // each close to an integer
    bool reflection;         // well, and not the origin
};

__device__ __forceinline__ Indices indices_of(float4 q, const Lattice* lattice)
{
    Indices own;
    q.x = __fsub_rn(q.x, lattice->shift[0]);
    q.y = __fsub_rn(q.y, lattice->shift[1]);
    bool origin = true;
    own.well = true;
#pragma unroll
    for (int k = 0; k < 3; k++) {
        own.h[k] = dot(q, lattice->V[3 * k], lattice->V[3 * k + 1], lattice->V[3 * k + 2]);
        own.well = own.well && fabsf(off_integer(own.h[k])) < INDEXED;
        origin = origin && rintf(own.h[k]) == 0.0f;
    }
    own.reflection = own.well && !origin;
    return own;
}

// What a block shares while it judges a lattice.
struct Judgement {
    float known[FEWEST_REFLECTIONS][3];               // different reflections
    int lowest[FEWEST_REFLECTIONS];                   // first peak of each
    int n_reflection, away[3];                        // well-indexed peaks but the origin; those off 0 along each row
    unsigned long long farthest;                      // from the first: squared distance, complement of the place
    int warp_total[FINISH_THREADS / WARP];
};

// How many peaks are well indexed, and whether they are enough different reflections, not on one line.  Peaks that
// are all equal, or all on a line, fit any lattice.  *n_axes: rows along which they have other indices than 0.
// By the whole block; judged: cleared before.
__device__ __forceinline__ int count_indexed(const float4* __restrict__ list, int n, const Lattice* lattice,
                                             Judgement* judged, bool* enough, int* n_axes)
{
    int well = 0, n_indexed;
    for (int i = threadIdx.x; i < n; i += FINISH_THREADS) {
        const Indices own = indices_of(list[i], lattice);
        well += own.well;
        if (!own.reflection) continue;
        atomicAdd(&judged->n_reflection, 1);          // at most MAX_PEAKS
#pragma unroll
        for (int k = 0; k < 3; k++)
            if (rintf(own.h[k]) != 0.0f) atomicAdd(&judged->away[k], 1);
    }
    prefix_sum(well, judged->warp_total, &n_indexed);     // and a barrier
    *n_axes = 0;
#pragma unroll
    for (int k = 0; k < 3; k++) *n_axes += judged->away[k] * AWAY_SHARE >= judged->n_reflection;
    *enough = false;
#pragma unroll 1
    for (int number = 0; number < FEWEST_REFLECTIONS; number++) {
        for (int i = threadIdx.x; i < n; i += FINISH_THREADS) {
            const Indices own = indices_of(list[i], lattice);
            bool is_new = own.reflection;
            for (int e = 0; e < number; e++) {
                const float* known = judged->known[e];
                is_new = is_new && !(known[0] == rintf(own.h[0]) && known[1] == rintf(own.h[1]) && known[2] == rintf(own.h[2]));
            }
            if (!is_new) continue;
            atomicMin(&judged->lowest[number], i);
            break;
        }
        __syncthreads();
        const int lowest = judged->lowest[number];
        if (lowest == NO_PEAK) return n_indexed;      // the same for the block
        if (threadIdx.x == 0) {
            const Indices own = indices_of(list[lowest], lattice);
#pragma unroll
            for (int k = 0; k < 3; k++) judged->known[number][k] = rintf(own.h[k]);
        }
        __syncthreads();
    }
    const Indices first = indices_of(list[judged->lowest[0]], lattice);
    for (int i = threadIdx.x; i < n; i += FINISH_THREADS) {
        const Indices own = indices_of(list[i], lattice);
        if (!own.reflection) continue;
        const float x = __fsub_rn(own.h[0], first.h[0]), y = __fsub_rn(own.h[1], first.h[1]), z = __fsub_rn(own.h[2], first.h[2]);
        const float square = __fmaf_rn(z, z, __fmaf_rn(y, y, __fmul_rn(x, x)));
        atomicMax(&judged->farthest, ((unsigned long long)__float_as_uint(square) << 32) | ~(unsigned int)i);
    }
    __syncthreads();
    const float length = __uint_as_float((unsigned int)(judged->farthest >> 32));
    const Indices last = indices_of(list[~(unsigned int)judged->farthest], lattice);
    const float dx = __fsub_rn(last.h[0], first.h[0]), dy = __fsub_rn(last.h[1], first.h[1]), dz = __fsub_rn(last.h[2], first.h[2]);
    bool off = false;
    for (int i = threadIdx.x; i < n; i += FINISH_THREADS) {
        const Indices own = indices_of(list[i], lattice);
        const float x = __fsub_rn(own.h[0], first.h[0]), y = __fsub_rn(own.h[1], first.h[1]), z = __fsub_rn(own.h[2], first.h[2]);
        const float cx = __fsub_rn(__fmul_rn(y, dz), __fmul_rn(z, dy));
        const float cy = __fsub_rn(__fmul_rn(z, dx), __fmul_rn(x, dz));
        const float cz = __fsub_rn(__fmul_rn(x, dy), __fmul_rn(y, dx));
        const float across = __fmaf_rn(cz, cz, __fmaf_rn(cy, cy, __fmul_rn(cx, cx)));
        off = off || (own.reflection && across > __fmul_rn(OFF_LINE * OFF_LINE, length));
    }
    *enough = __syncthreads_or(off);
    return n_indexed;
}

// The value number *rank* of those below 2, smallest first; none is negative.  By the whole block: the bits of a
// float that is not negative rise with it, so they are found one after the other by counting.
__device__ __forceinline__ float ranked(const float* values, int n, int rank)
{
    unsigned int found = 0u;
#pragma unroll 1
    for (int bit = 29; bit >= 0; bit--) {
        const unsigned int trial = found | 1u << bit;
        int below = 0;
        for (int first = 0; first < n; first += FINISH_THREADS) {
            const int i = first + threadIdx.x;
            below += __syncthreads_count(i < n && __float_as_uint(values[i]) < trial);
        }
        if (below <= rank) found = trial;
    }
    return __uint_as_float(found);
}

// Excludes the peaks that a lattice explains, those within 4 times the median |d|, so that chance neighbours stay;
// and those that are no numbers.  Gives the number of peaks left.  By the whole block.
__device__ __forceinline__ int exclude_explained(const double* __restrict__ q, int n, const Lattice* lattice,
                                                 unsigned char* __restrict__ excluded, float* distances)
{
    int n_near = 0;
    for (int first = 0; first < n; first += FINISH_THREADS) {
        const int i = first + threadIdx.x;
        float distance = SUBTRACT_MOST;
        if (i < n) {
            if (!excluded[i]) {
                const float4 peak = make_float4((float)q[3 * i], (float)q[3 * i + 1], (float)q[3 * i + 2], 0.0f);
                distance = __fsqrt_rn(misfit_of(peak, lattice->V, lattice->shift).square);
            }
            distances[i] = distance;
        }
        n_near += __syncthreads_count(i < n && distance < SUBTRACT_MOST);
    }
    float limit = SUBTRACT_LEAST;
    if (n_near > 0) {
        const float median = 0.5f * (ranked(distances, n, (n_near - 1) / 2) + ranked(distances, n, n_near / 2));
        limit = fminf(SUBTRACT_MOST, fmaxf(SUBTRACT_LEAST, __fmul_rn(SUBTRACT_FACTOR, median)));
    }
    int left = 0;
    for (int first = 0; first < n; first += FINISH_THREADS) {
        const int i = first + threadIdx.x;
        bool stays = false;
        if (i < n && !excluded[i]) {
            stays = distances[i] >= limit;            // false for NaN
            if (!stays) excluded[i] = 1;
        }
        left += __syncthreads_count(stays);
    }
    return left;
}

// One block a slot.  Of the lattices of this attempt the best by score; if it is accepted and better than what the
// trial had, it is the frame's best.  The trial is over if the lattice is strong, or the second accepted one that
// is the same, or no attempt is left.  Then: the lattice is found, or the weakest peaks are left out, or the frame
// is done.
// Memory: the peaks of the frame up to eight times; about 9 KB of shared memory.
extern "C" __global__ void __launch_bounds__(FINISH_THREADS, FINISH_BLOCKS)
finish_attempt(const Task* __restrict__ tasks, const int* __restrict__ n_task,
               const float4* __restrict__ peaks, const int* __restrict__ n_peak,
               const Lattice* __restrict__ fitted, const int* __restrict__ n_chosen,
               const double* __restrict__ q,          // (frame, MAX_PEAKS, xyz): as the search gave them
               const int* __restrict__ n_given,       // (frame)
               const Attempt* __restrict__ plan, int n_plan,
               FrameTrials* __restrict__ trials, int* __restrict__ n_used,
               unsigned char* __restrict__ excluded,  // (frame, MAX_PEAKS)
               int* __restrict__ next_attempt,
               int further,                           // first attempt for further lattices, or NO_ATTEMPT
               int again)                             // first attempt with fewer peaks, or NO_ATTEMPT
{
    __shared__ Lattice lattice;
    __shared__ Judgement judged;
    __shared__ float distances[MAX_PEAKS];
    __shared__ bool same;
    const int slot = blockIdx.x, tid = threadIdx.x;
    if (slot >= *n_task) return;
    const Task task = tasks[slot];
    const int frame = task.frame, n = n_peak[frame];
    FrameTrials* own = trials + frame;
    const float4* list = peaks + (long long)frame * MAX_PEAKS;
    float best = own->best.score;
    bool over = n < FEWEST_PEAKS || task.number + 1 >= n_plan || plan[task.number + 1].begins;

    int place = 0;
    float score = NOTHING;
    for (int i = 0; i < 2 * n_chosen[slot]; i++) {
        const float other = fitted[slot * 2 * N_CELLS + i].score;
        if (other > score) {
            score = other;
            place = i;
        }
    }
    if (n >= FEWEST_PEAKS && score >= ACCEPT) {       // the same for the block
        const Lattice* from = fitted + slot * 2 * N_CELLS + place;
        if (tid < 9)                                  // back into the order of the reduced cell
            lattice.V[(tid / 3 + task.anchor) % 3 * 3 + tid % 3] = from->V[tid];
        else if (tid < 11)
            lattice.shift[tid - 9] = from->shift[tid - 9];
        else if (tid == 11)
            lattice.score = score;
        if (tid < FEWEST_REFLECTIONS) judged.lowest[tid] = NO_PEAK;
        if (tid < 3) judged.away[tid] = 0;
        if (tid == 0) {
            judged.farthest = 0ull;
            judged.n_reflection = 0;
        }
        __syncthreads();
        bool enough;
        int n_axes;
        const int n_indexed = count_indexed(list, n, &lattice, &judged, &enough, &n_axes);
        if (enough && n_axes < 3) {                   // the same for the block
            if (tid < WARP) {
                score = likelihood<N_SCORE_SIGMAS>(lattice.V, lattice.shift, list, n, n_axes, tid);
                if (tid == 0) lattice.score = score;
            }
            __syncthreads();
            score = lattice.score;
        }
        if (enough && score >= ACCEPT) {
            if (tid < WARP) {
                bool agreed = false;
                if (best >= ACCEPT) agreed = agree(lattice.V[tid % 9], own->best.V[tid % 9], SAME_TRACE, tid);
                if (tid == 0) same = agreed;
            }
            __syncthreads();
            over = over || same;
            if (score > best) {
                if (tid < LATTICE_WORDS) copy_word(&own->best, &lattice, tid);
                best = score;
                const float quality = __fadd_rn(score, __fmul_rn(MISS_PENALTY, (float)(n - n_indexed)));
                over = over || (n_indexed > 0 && score > STRONG_SCORE && quality > __fmul_rn(STRONG_QUALITY, (float)n_indexed));
            }
            __syncthreads();
        }
    }
    if (!over) {
        if (tid == 0) next_attempt[frame] = task.number + 1;
        return;
    }

    const int n_found = own->n_found, n_tried = own->n_tried + 1, given = n_given[frame];
    int next = NO_ATTEMPT, used = n_used[frame];
    const bool found = best >= ACCEPT;
    if (found) {
        if (tid < LATTICE_WORDS) {
            copy_word(&own->found[n_found], &own->best, tid);
            copy_word(&lattice, &own->best, tid);
        }
        __syncthreads();
        if (further != NO_ATTEMPT && n_found + 1 < MOST_LATTICES) {
            const long long first = (long long)frame * MAX_PEAKS;
            const int left = exclude_explained(q + 3 * first, given, &lattice, excluded + first, distances);
            if (left >= FEWEST_PEAKS_LEFT) next = further;
            used = given;
        }
    } else if (again != NO_ATTEMPT && n_found == 0 && n_tried < MOST_TRIES && used >= FEWEST_PEAKS_RETRY && used >= RETRY_SHARE) {
        used -= used / RETRY_SHARE;
        next = again;
    }
    __syncthreads();                                  // all have read what changes now
    if (tid == 0) {
        own->best.score = NOTHING;
        own->n_found = n_found + found;
        own->n_tried = n_tried;
        n_used[frame] = used;
        next_attempt[frame] = next;
    }
}
