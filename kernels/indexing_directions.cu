// SPDX-License-Identifier: GPL-3.0-or-later
// Indexing trials, second part: the directions in which the anchor may lie.
//
// The score of a direction u for vectors q of weight w is S(u) = sum of max(0, w (1 - 16 d^2)), d the distance of
// L (q . u) from an integer and L the anchor's length: a periodic function without a sine.
//
//   scan_directions     vectors            -> score of each direction of a grid
//   select_directions   scores             -> the best
//   refine_directions   the best           -> anchor vectors by least squares, with scores
//   keep_directions     anchor vectors     -> the best of those that differ
//
// Twin: gpuidx/backends/cpu/scan.py.  Every float sum has one order: that of the list in the scan; lane k adds items
// k, k + 32, … and a tree adds the lanes in the refinement.
#include "indexing_normal.cuh"
#include "select.cuh"

#define SCAN_THREADS 256
#define EACH 4                  // directions of a thread
#define TILE 1024               // directions of a block
#define CHOOSE_THREADS 256
#define CHOOSE_BLOCKS 4         // on a multiprocessor at a time: without a number some versions of NVRTC spill
#define PART_TILES 16           // one in so many scores gives a first limit
#define REFINE_THREADS 128      // a warp for each direction
#define KEEP_THREADS 128

static_assert(TILE == EACH * SCAN_THREADS && CHOOSE_THREADS == SELECT_THREADS && SCAN_VECTORS <= SCAN_THREADS, "sizes");
static_assert(N_SAMPLED <= KEEP_THREADS && N_SAMPLED % (REFINE_THREADS / 32) == 0 && N_DIRECTIONS <= 32, "sizes");

// A block takes TILE directions of a slot, each thread EACH of them; the vectors are in shared memory.
// Grid (ceil(directions of the finest level / TILE), slots); blocks beyond the slot's own level end at once.
// Memory: reads 16 bytes and writes 4 a direction; the grid stays in the caches.  Bound by arithmetic: 10 operations a
// vector and direction.
extern "C" __global__ void __launch_bounds__(SCAN_THREADS)
scan_directions(const Task* __restrict__ tasks, const int* __restrict__ n_task, const Anchor* __restrict__ anchors,
                const VectorSets* __restrict__ sets,
                const float4* __restrict__ scan_vectors,   // (slot, SCAN_VECTORS): x y z weight; 1/angstrom
                const float4* __restrict__ grid,           // (direction of all levels): x y z
                float* __restrict__ scores,                // (slot, most_directions)
                int most_directions)
{
    __shared__ float4 vectors[SCAN_VECTORS];
    const int slot = blockIdx.y, first = blockIdx.x * TILE + threadIdx.x;
    if (slot >= *n_task) return;
    const VectorSets set = sets[slot];
    const Anchor* anchor = anchors + tasks[slot].anchor;
    const int start = anchor->grid_start[set.scan_level], n = anchor->grid_start[set.scan_level + 1] - start;
    if (set.n_scan == 0 || blockIdx.x * TILE >= n) return;
    if (threadIdx.x < set.n_scan)
        vectors[threadIdx.x] = scaled(scan_vectors[slot * SCAN_VECTORS + threadIdx.x], anchor->length);
    __syncthreads();
    float4 direction[EACH];
    float score[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
        direction[k] = grid[start + min(first + k * SCAN_THREADS, n - 1)];
        score[k] = 0.0f;
    }
    for (int i = 0; i < set.n_scan; i++) {
        const float4 vector = vectors[i];
#pragma unroll
        for (int k = 0; k < EACH; k++) {
            const float d = off_integer(dot(vector, direction[k].x, direction[k].y, direction[k].z));
            score[k] = __fadd_rn(score[k], direction_score(vector.w, d));
        }
    }
    float* own = scores + (long long)slot * most_directions;
#pragma unroll
    for (int k = 0; k < EACH; k++)
        if (first + k * SCAN_THREADS < n) own[first + k * SCAN_THREADS] = score[k];
}

// The scores above 0 as `select_smallest` wants them: key (score, number of the direction), the highest first.
struct ScoreKeys {
    const float* scores;
    int n;

    template <class Visit>
    __device__ __forceinline__ void operator()(bool part, unsigned int highest, const Visit& visit) const
    {
        const int step = part ? PART_TILES * CHOOSE_THREADS : CHOOSE_THREADS;
#pragma unroll 4
        for (int k = threadIdx.x; k < n; k += step) {
            const unsigned int key = ~__float_as_uint(scores[k]);    // positive floats in falling order
            if (scores[k] > 0.0f && key <= highest) visit(key, (unsigned int)k);
        }
    }
};

// One block a slot: numbers of the N_SAMPLED directions with the highest scores above 0, best first, ties by number.
// Memory: reads the scores about three times; 10 kB of shared memory.
extern "C" __global__ void __launch_bounds__(CHOOSE_THREADS, CHOOSE_BLOCKS)
select_directions(const Task* __restrict__ tasks, const int* __restrict__ n_task, const Anchor* __restrict__ anchors,
                  const VectorSets* __restrict__ sets, const float* __restrict__ scores,
                  int* __restrict__ sampled,               // (slot, N_SAMPLED): within the level
                  int* __restrict__ n_sampled,             // (slot)
                  int most_directions)
{
    __shared__ Selection selection;
    const int slot = blockIdx.x;
    if (slot >= *n_task) return;
    const VectorSets set = sets[slot];
    if (set.n_scan == 0) return;
    const int* start = anchors[tasks[slot].anchor].grid_start + set.scan_level;
    const ScoreKeys each = {scores + (long long)slot * most_directions, start[1] - start[0]};
    const int found = select_smallest(each, N_SAMPLED, &selection);
    if (threadIdx.x < found) sampled[slot * N_SAMPLED + threadIdx.x] = (int)(unsigned int)selection.keys[threadIdx.x];
    if (threadIdx.x == 0) n_sampled[slot] = found;
}

// Moves an anchor vector by its least-squares step; the known length is a further observation.  False if there was
// nothing to go by.
__device__ __forceinline__ bool direction_step(const NormalSums& sums, float4* t)
{
    const double trace = (double)sums.xx + (double)sums.yy + (double)sums.zz;
    const double tx = t->x, ty = t->y, tz = t->z, length = sqrt(tx * tx + ty * ty + tz * tz);
    if (!(trace > 0.0 && length > 0.0)) return false;
    const double ux = tx / length, uy = ty / length, uz = tz / length;
    const double pull = DIRECTION_LENGTH_WEIGHT * (1.0 - length), ridge = DIRECTION_RIDGE * trace;
    const Normal normal = {
        sums.xx + ridge + DIRECTION_LENGTH_WEIGHT * ux * ux, sums.xy + DIRECTION_LENGTH_WEIGHT * ux * uy,
        sums.xz + DIRECTION_LENGTH_WEIGHT * ux * uz,         sums.yy + ridge + DIRECTION_LENGTH_WEIGHT * uy * uy,
        sums.yz + DIRECTION_LENGTH_WEIGHT * uy * uz,         sums.zz + ridge + DIRECTION_LENGTH_WEIGHT * uz * uz,
        sums.x + pull * ux,                                  sums.y + pull * uy,
        sums.z + pull * uz,
    };
    move_by_solution(normal, DIRECTION_STEP, t);
    return true;
}

// A warp takes a direction: three rounds of least squares, then its score; -1 if its length became too different.
// Grid (N_SAMPLED / 4, slots).  Memory: vectors in shared memory, 4 kB.
extern "C" __global__ void __launch_bounds__(REFINE_THREADS)
refine_directions(const Task* __restrict__ tasks, const int* __restrict__ n_task, const Anchor* __restrict__ anchors,
                  const VectorSets* __restrict__ sets, const float4* __restrict__ scan_vectors,
                  const float4* __restrict__ grid, const int* __restrict__ sampled, const int* __restrict__ n_sampled,
                  float4* __restrict__ refined)            // (slot, N_SAMPLED): x y z in units of L, score
{
    __shared__ float4 vectors[SCAN_VECTORS];
    const int slot = blockIdx.y, number = blockIdx.x * (REFINE_THREADS / 32) + (threadIdx.x >> 5);
    if (slot >= *n_task) return;
    const VectorSets set = sets[slot];
    if (set.n_scan == 0) return;
    const Anchor* anchor = anchors + tasks[slot].anchor;
    for (int i = threadIdx.x; i < set.n_scan; i += REFINE_THREADS)
        vectors[i] = scaled(scan_vectors[slot * SCAN_VECTORS + i], anchor->length);
    __syncthreads();
    if (number >= n_sampled[slot]) return;                 // whole warps; no barrier below
    float4 t = grid[anchor->grid_start[set.scan_level] + sampled[slot * N_SAMPLED + number]];
    bool kept = true;
#pragma unroll 1
    for (int round = 0; round < 3 && kept; round++) {
        const float tolerance = round == 0 ? DIRECTION_TOLERANCE_0 : round == 1 ? DIRECTION_TOLERANCE_1 : DIRECTION_TOLERANCE_2;
        const auto weight_of = [](float4 v) { return v.w; };
        kept = direction_step(sum_normals(vectors, set.n_scan, t, tolerance, weight_of), &t);
    }
    float score = 0.0f;
    for (int i = threadIdx.x & 31; i < set.n_scan; i += 32)
        score = __fadd_rn(score, direction_score(vectors[i].w, off_integer(dot(vectors[i], t.x, t.y, t.z))));
    score = warp_sum(score);
    const float length = __fsqrt_rn(dot(t, t.x, t.y, t.z));
    t.w = kept && fabsf(__fsub_rn(length, 1.0f)) <= DIRECTION_STRETCH ? score : -1.0f;
    if ((threadIdx.x & 31) == 0) refined[slot * N_SAMPLED + number] = t;
}

// One block a slot: the first N_DIRECTIONS in the order of their scores, ties by rank in the scan, that lie apart from
// all better ones, sign ignored.
// Memory: 3 kB of shared memory.
extern "C" __global__ void __launch_bounds__(KEEP_THREADS)
keep_directions(const Task* __restrict__ tasks, const int* __restrict__ n_task, const Anchor* __restrict__ anchors,
                const VectorSets* __restrict__ sets, const float4* __restrict__ refined,
                const int* __restrict__ n_sampled,
                float4* __restrict__ directions,           // (slot, N_DIRECTIONS)
                int* __restrict__ n_direction)             // (slot)
{
    __shared__ unsigned long long keys[KEEP_THREADS];
    __shared__ float4 own[KEEP_THREADS];                   // looked at one after the other: that must not take long
    const int slot = blockIdx.x, lane = threadIdx.x;
    if (slot >= *n_task) return;
    const VectorSets set = sets[slot];
    if (set.n_scan == 0) {
        if (lane == 0) n_direction[slot] = 0;
        return;
    }
    float4 t = make_float4(0.0f, 0.0f, 0.0f, -1.0f);
    if (lane < n_sampled[slot]) t = refined[slot * N_SAMPLED + lane];
    own[lane] = t;
    keys[lane] = t.w < 0.0f ? ~0ull : (unsigned long long)~__float_as_uint(t.w) << 32 | (unsigned int)lane;
    sort_keys(keys, KEEP_THREADS);
    if (lane >= 32) return;                                // one warp goes on; no barrier below
    const float near = anchors[tasks[slot].anchor].same_direction[set.scan_level];
    float4 mine = make_float4(0.0f, 0.0f, 0.0f, 0.0f);     // lane k holds the direction kept as number k
    int n = 0;
    for (int k = 0; k < N_SAMPLED && n < N_DIRECTIONS && keys[k] != ~0ull; k++) {
        t = own[(unsigned int)keys[k]];
        const float x = __fsub_rn(__fmul_rn(mine.y, t.z), __fmul_rn(mine.z, t.y));
        const float y = __fsub_rn(__fmul_rn(mine.z, t.x), __fmul_rn(mine.x, t.z));
        const float z = __fsub_rn(__fmul_rn(mine.x, t.y), __fmul_rn(mine.y, t.x));
        const float across = __fmaf_rn(z, z, __fmaf_rn(y, y, __fmul_rn(x, x)));
        const float squares = __fmul_rn(dot(mine, mine.x, mine.y, mine.z), dot(t, t.x, t.y, t.z));
        if (__any_sync(ALL_LANES, lane < n && across < __fmul_rn(near, squares))) continue;
        if (lane == n) {
            mine = t;
            directions[slot * N_DIRECTIONS + n] = t;
        }
        n++;
    }
    if (lane == 0) n_direction[slot] = n;
}
