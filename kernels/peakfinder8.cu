// SPDX-License-Identifier: GPL-3.0-or-later
// peakfinder8 on batches of frames, with the peaks of the CPU backend, which are CrystFEL's, to the last bit.
//
// The search in short (Barty et al. 2014, J. Appl. Cryst. 47, 1118; CrystFEL 0.12): the pixels are sorted into
// rings about the beam; each ring's mean and limits are found by averaging ROUNDS times, each time without what
// lay beyond the limits; pixels above their ring's limit that hang together are a peak, if they pass the criteria.
//
// The result is fixed by float32 sums in CrystFEL's order, and floating-point sums cannot be split without other
// last bits.  So what runs side by side is frames: lane = frame, and every sum is a serial one.
//
// The kernels in their order; all results are the same in any order of threads.
//   sort_by_ring       frames            -> sorted: pixels ring by ring, LANES frames side by side
//   clip_rings         sorted            -> mean and limit of each ring; a bit for each candidate pixel
//   list_candidates    bits              -> candidates of each frame in CrystFEL's order
//   grow_peaks         candidates        -> one record a candidate: a peak, or none
//   collect_peaks      records           -> peaks in order
//   order_by_strength  peaks             -> place of each, strongest first
//   scattering_vectors peaks             -> q in that order
//
// Two ways of counting pixels: a *pixel* is a place in the slab as it was sent (row * width + column), a *position*
// counts panel by panel, each along its rows, which is CrystFEL's order; panels may lie side by side in the slab.
#include "peakfinder8.cuh"

#define TILE 128
#define SORT_THREADS 256
#define CLIP_THREADS 128
#define LIST_THREADS 512
#define GROW_THREADS 64
#define COLLECT_THREADS 256
#define AHEAD 32         // loads in flight before the sums, which have to wait for each other
// Blocks on a multiprocessor at a time: without a number some versions of NVRTC save registers and spill.
#define CLIP_BLOCKS 8
#define GROW_BLOCKS 16

// A block moves TILE pixels of LANES frames through shared memory, so that reading is along the rows of a frame
// and writing is across frames.
// Grid (ceil(n_pixel / TILE), groups of LANES frames).  Lanes without a frame are filled with zeros.
// Memory: reads each pixel once and 4 bytes of place_of a group, writes each usable pixel once.
extern "C" __global__ void __launch_bounds__(SORT_THREADS)
sort_by_ring(const PIXEL* __restrict__ frames,        // (frame, pixel)
             const int* __restrict__ place_of,        // (pixel): place in a group's sorted pixels, or -1
             PIXEL* __restrict__ sorted,              // (group, place, lane)
             int n_frame, int n_pixel, int n_place, float lessthan, float morethan, float equal)
{
    __shared__ PIXEL tile[LANES][TILE + 1];           // one more: lanes of a warp read different banks
    const int first = blockIdx.x * TILE, group = blockIdx.y;
    for (int i = threadIdx.x; i < LANES * TILE; i += SORT_THREADS) {
        const int lane = i / TILE, k = i % TILE, frame = group * LANES + lane, pixel = first + k;
        PIXEL value = 0;
        if (frame < n_frame && pixel < n_pixel) value = frames[(long long)frame * n_pixel + pixel];
#if IS_FLOAT
        value = value_of(value, lessthan, morethan, equal);
#endif
        tile[lane][k] = value;
    }
    __syncthreads();
    for (int i = threadIdx.x; i < LANES * TILE; i += SORT_THREADS) {
        const int lane = i % LANES, k = i / LANES, pixel = first + k;
        if (pixel < n_pixel) {
            const int place = place_of[pixel];
            if (place >= 0) sorted[((long long)group * n_place + place) * LANES + lane] = tile[lane][k];
        }
    }
}

// Pixel number k of a ring, as float32; NaN if it is bad.
__device__ __forceinline__ float ring_value(const PIXEL* __restrict__ column, long long place,
                                            float lessthan, float morethan, float equal)
{
#if IS_FLOAT
    return column[place * LANES];                     // bad ones became NaN when they were sorted
#else
    return value_of(column[place * LANES], lessthan, morethan, equal);
#endif
}

// A warp has 32 / LANES rings of LANES frames; each lane adds up its ring of its frame, in CrystFEL's order,
// ROUNDS times over, then marks what is above the limit.  No shared memory.
// Grid (ceil(n_ring / rings of a block), groups).  Rings come longest first: a ring is a chain of sums.
// Memory: reads each usable pixel once a round and once more for the candidates.
extern "C" __global__ void __launch_bounds__(CLIP_THREADS, CLIP_BLOCKS)
clip_rings(const PIXEL* __restrict__ sorted,          // (group, place, lane)
           const int* __restrict__ ring_of,           // (n_ring): number of the ring, longest ring first
           const int* __restrict__ ring_start,        // (n_ring + 1): its first place
           const int* __restrict__ position_of,       // (place): position
           const int* __restrict__ sample_start,      // (n_ring + 1): first entry in sample; not used unless SAMPLED
           const int* __restrict__ sample,            // places whose pixels are averaged
           float* __restrict__ mean, float* __restrict__ upper,                    // (frame, ring)
           unsigned int* __restrict__ bits,           // (frame, n_word), zero before
           int n_frame, int n_ring, int n_place, int n_word, float min_snr, float threshold,
           float lessthan, float morethan, float equal)
{
    const int lane = threadIdx.x % LANES, group = blockIdx.y, frame = group * LANES + lane;
    const int j = (blockIdx.x * CLIP_THREADS + threadIdx.x) / LANES;
    const int start = j < n_ring ? ring_start[j] : 0, end = j < n_ring ? ring_start[j + 1] : 0;
#if SAMPLED
    const int first = j < n_ring ? sample_start[j] : 0, last = j < n_ring ? sample_start[j + 1] : 0;
#define PLACE(k) sample[k]
#else
    const int first = start, last = end;
#define PLACE(k) (k)
#endif
    const PIXEL* column = sorted + (long long)group * n_place * LANES + lane;
    float average = 0.0f, high = FIRST_LIMIT, low = -FIRST_LIMIT;
    for (int round = 0; round < ROUNDS; round++) {
        float total = 0.0f, total_sq = 0.0f;
        int n = 0, k = first;
        for (; k + AHEAD <= last; k += AHEAD) {
            float value[AHEAD];
#pragma unroll
            for (int i = 0; i < AHEAD; i++) value[i] = ring_value(column, PLACE(k + i), lessthan, morethan, equal);
#pragma unroll
            for (int i = 0; i < AHEAD; i++)
                if (value[i] < high && value[i] > low) {
                    total = __fadd_rn(total, value[i]);
                    total_sq = __fadd_rn(total_sq, __fmul_rn(value[i], value[i]));
                    n++;
                }
        }
#pragma unroll 1
        for (; k < last; k++) {
            const float value = ring_value(column, PLACE(k), lessthan, morethan, equal);
            if (value < high && value > low) {
                total = __fadd_rn(total, value);
                total_sq = __fadd_rn(total_sq, __fmul_rn(value, value));
                n++;
            }
        }
        const float high_before = high, low_before = low;
        if (n == 0) {                                 // the next round lets in every positive value
            average = 0.0f;
            high = LARGEST;
            low = SMALLEST;
        } else {
            average = __fdiv_rn(total, (float)n);
            float sigma = __fsub_rn(__fdiv_rn(total_sq, (float)n), __fmul_rn(average, average));
            if (sigma >= 0.0f) sigma = __fsqrt_rn(sigma);      // a negative variance is used as it is
            high = __fadd_rn(average, __fmul_rn(min_snr, sigma));
            low = __fsub_rn(average, __fmul_rn(min_snr, sigma));
            if (high < threshold) high = threshold;
        }
        // The same limits let in the same values: nothing changes any more.
        if (__all_sync(ALL_LANES, high == high_before && low == low_before)) break;
    }
    if (j >= n_ring || frame >= n_frame) return;
    mean[(long long)frame * n_ring + ring_of[j]] = average;
    upper[(long long)frame * n_ring + ring_of[j]] = high;
    unsigned int* own = bits + (long long)frame * n_word;
    int k = start;
    for (; k + AHEAD <= end; k += AHEAD) {
        unsigned int above = 0;
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            above |= (unsigned int)(ring_value(column, k + i, lessthan, morethan, equal) > high) << i;
        for (; above; above &= above - 1) {
            const int position = position_of[k + __ffs(above) - 1];
            atomicOr(&own[position >> 5], 1u << (position & 31));
        }
    }
    for (; k < end; k++)
        if (ring_value(column, k, lessthan, morethan, equal) > high) {
            const int position = position_of[k];
            atomicOr(&own[position >> 5], 1u << (position & 31));
        }
#undef PLACE
}

// One block a frame: the positions whose bits are set, in order.  The count may be greater than the list is long.
// Memory: reads the bits, 1/8 byte a pixel; 64 bytes of shared memory.
extern "C" __global__ void __launch_bounds__(LIST_THREADS)
list_candidates(const uint4* __restrict__ bits,       // (frame, n_quad)
                int* __restrict__ candidates,         // (frame, most)
                int* __restrict__ n_candidate,        // (frame)
                int n_quad, int most)
{
    __shared__ int warp_total[LIST_THREADS / 32];
    const int frame = blockIdx.x;
    const uint4* own = bits + (long long)frame * n_quad;
    int* list = candidates + (long long)frame * most;
    int found = 0;
    for (int first = 0; first < n_quad; first += LIST_THREADS) {
        const int quad = first + threadIdx.x;
        uint4 word = make_uint4(0, 0, 0, 0);
        if (quad < n_quad) word = own[quad];
        const int n = __popc(word.x) + __popc(word.y) + __popc(word.z) + __popc(word.w);
        if (!__syncthreads_or(n)) continue;           // most of a frame is empty
        int total;
        int at = found + prefix_sum(n, warp_total, &total);
#pragma unroll
        for (int w = 0; w < 4; w++) {
            unsigned int left = w == 0 ? word.x : w == 1 ? word.y : w == 2 ? word.z : word.w;
            for (; left; left &= left - 1, at++)
                if (at < most) list[at] = quad * 128 + w * 32 + __ffs(left) - 1;
        }
        found += total;
    }
    if (threadIdx.x == 0) n_candidate[frame] = found;
}

__device__ __forceinline__ bool is_candidate(const unsigned int* __restrict__ bits, int position)
{
    return bits[position >> 5] >> (position & 31) & 1u;
}

// Number of the ring at a pixel's first corner, with x and y cut to whole numbers towards zero, as in CrystFEL.
__device__ __forceinline__ int ring_at(const double* __restrict__ placement, int fs, int ss)
{
    const long long x = (long long)__dadd_rn(__dadd_rn(placement[0], __dmul_rn((double)fs, placement[2])),
                                             __dmul_rn((double)ss, placement[4]));
    const long long y = (long long)__dadd_rn(__dadd_rn(placement[1], __dmul_rn((double)fs, placement[3])),
                                             __dmul_rn((double)ss, placement[5]));
    return (int)rintf((float)__dsqrt_rn((double)(x * x + y * y)));
}

// One thread a candidate.  The first pixel of a component, in CrystFEL's order, that is not on the panel's border
// grows the component, breadth first, and measures it; the threads of its other pixels end when they meet an
// earlier one.  So components do not wait for each other, and none is grown to its end twice.
// Grid (ceil(most / GROW_THREADS), frames).  Memory: the queue, 4 * QUEUE bytes, is local; else some hundred bytes
// a candidate.
extern "C" __global__ void __launch_bounds__(GROW_THREADS, GROW_BLOCKS)
grow_peaks(const PIXEL* __restrict__ frames, const unsigned int* __restrict__ bits,
           const int* __restrict__ candidates, const int* __restrict__ n_candidate,
           const unsigned short* __restrict__ ring,   // (pixel): number of the ring, or MASKED
           const float* __restrict__ mean, const float* __restrict__ upper,
           const int* __restrict__ panel_start,       // (panel): first position
           const int* __restrict__ rect,              // (panel, 4): x0, y0, width, height in the slab
           const double* __restrict__ placement,      // (panel, 6): x, y of corner, step along fs, along ss; px
           const float* __restrict__ saturation,      // (pixel): values above are saturated; read if has_saturation
           Peak* __restrict__ records,                // (frame, most)
           int* __restrict__ overflow,                // (frame): set to 1 if a component does not fit the queue
           int n_pixel, int slab_width, int n_panel, int n_ring, int n_word, int most, int has_saturation,
           int min_pix_count, int max_pix_count, int local_bg_radius, float min_snr,
           float lessthan, float morethan, float equal)
{
    const int frame = blockIdx.y, c = blockIdx.x * GROW_THREADS + threadIdx.x;
    const int n = n_candidate[frame];
    if (c >= n || c >= most) return;
    Peak* record = records + (long long)frame * most + c;
    record->panel = -1;
    const int seed_position = candidates[(long long)frame * most + c];
    bits += (long long)frame * n_word;
    frames += (long long)frame * n_pixel;
    mean += (long long)frame * n_ring;
    upper += (long long)frame * n_ring;

    int panel = 0;
    for (int above = n_panel; above - panel > 1;) {
        const int middle = (panel + above) >> 1;
        if (panel_start[middle] <= seed_position) panel = middle;
        else above = middle;
    }
    const int start = panel_start[panel], n_fs = rect[4 * panel + 2], n_ss = rect[4 * panel + 3];
    const int corner = rect[4 * panel + 1] * slab_width + rect[4 * panel];    // the panel's first pixel
    const int seed = seed_position - start;
    // the panel's border may belong to a peak but does not start one
    if (seed % n_fs < 1 || seed % n_fs >= n_fs - 1 || seed / n_fs < 1 || seed / n_fs >= n_ss - 1) return;

    // Growth.  Sums run in the order of the queue.
    int queue[QUEUE];                                 // within the panel: ss * n_fs + fs
    int n_member = 1;
    queue[0] = seed;
    float total = 0.0f, sum_fs = 0.0f, sum_ss = 0.0f;
#pragma unroll 1
    for (int at = 0; at < n_member; at++) {
        const int fs = queue[at] % n_fs, ss = queue[at] / n_fs, pixel = corner + ss * slab_width + fs;
        const float weight = fabsf(__fsub_rn((float)frames[pixel], mean[ring[pixel]]));
        total = __fadd_rn(total, weight);
        sum_fs = __fadd_rn(sum_fs, __fmul_rn(weight, (float)fs));
        sum_ss = __fadd_rn(sum_ss, __fmul_rn(weight, (float)ss));
#pragma unroll 1
        for (int k = 0; k < 9; k++) {
            const int near_fs = fs + k % 3 - 1, near_ss = ss + k / 3 - 1;
            if (near_fs < 0 || near_fs >= n_fs || near_ss < 0 || near_ss >= n_ss) continue;
            const int near = near_ss * n_fs + near_fs;
            if (!is_candidate(bits, start + near)) continue;
            const bool inner = near_fs >= 1 && near_fs < n_fs - 1 && near_ss >= 1 && near_ss < n_ss - 1;
            if (inner && near < seed) return;         // that one's thread does this component
            bool seen = false;
#pragma unroll 1
            for (int i = 0; i < n_member && !seen; i++) seen = queue[i] == near;
            if (seen) continue;
            if (n_member == max_pix_count) return;    // too many pixels, whichever thread does it
            if (n_member == QUEUE) {
                atomicOr(&overflow[frame], 1);
                return;
            }
            queue[n_member++] = near;
        }
    }
    if ((double)total < TINY || n_member < min_pix_count || n_member > max_pix_count) return;
    const float centre_fs = rintf(__fdiv_rn(sum_fs, total)), centre_ss = rintf(__fdiv_rn(sum_ss, total));
    // values near the end of float32's range, whose sums are infinite, have no centre
    if (!(centre_fs >= 0.0f && centre_fs < (float)n_fs && centre_ss >= 0.0f && centre_ss < (float)n_ss)) return;

    // Background: a disc of twice the radius, without what is above the limits.  The window ends one pixel
    // earlier at the high sides, as in CrystFEL.
    const int fs0 = (int)centre_fs, ss0 = (int)centre_ss, reach = 2 * local_bg_radius;
    float background = 0.0f, background_sq = 0.0f, background_highest = 0.0f;
    int n_background = 0;
#pragma unroll 1
    for (int ss = max(ss0 - reach, 0); ss < min(ss0 + reach, n_ss); ss++)
#pragma unroll 1
        for (int fs = max(fs0 - reach, 0); fs < min(fs0 + reach, n_fs); fs++) {
            if ((fs - fs0) * (fs - fs0) + (ss - ss0) * (ss - ss0) > reach * reach) continue;
            const int pixel = corner + ss * slab_width + fs, number = ring[pixel];
            if (number == MASKED) continue;
            const float value = value_of(frames[pixel], lessthan, morethan, equal);
            if (value < upper[number]) {
                n_background++;
                background = __fadd_rn(background, value);
                background_sq = __fadd_rn(background_sq, __fmul_rn(value, value));
                if (value > background_highest) background_highest = value;
            }
        }
    float level, spread = FALLBACK_SIGMA;
    if (n_background == 0) {
        level = mean[ring_at(placement + 6 * panel, fs0, ss0)];
        background_highest = 0.0f;
    } else {
        level = __fdiv_rn(background, (float)n_background);
        const float variance = __fsub_rn(__fdiv_rn(background_sq, (float)n_background), __fmul_rn(level, level));
        if (variance >= 0.0f) spread = __fsqrt_rn(variance);
    }

    // Intensity above the background; the centre is weighted by the values as they are.
    float intensity = 0.0f, raw = 0.0f, highest = 0.0f;
    int saturated = 0;
    sum_fs = 0.0f;
    sum_ss = 0.0f;
#pragma unroll 1
    for (int i = 0; i < n_member; i++) {
        const int fs = queue[i] % n_fs, ss = queue[i] / n_fs, pixel = corner + ss * slab_width + fs;
        const float value = (float)frames[pixel], above = __fsub_rn(value, level);
        intensity = __fadd_rn(intensity, above);
        raw = __fadd_rn(raw, value);
        sum_fs = __fadd_rn(sum_fs, __fmul_rn(value, (float)fs));
        sum_ss = __fadd_rn(sum_ss, __fmul_rn(value, (float)ss));
        if (above > highest) highest = above;
        if (has_saturation && value > saturation[pixel]) saturated = 1;
    }
    const float weight = fabsf(raw);
    if ((double)weight < TINY) return;
    const float fs = __fdiv_rn(sum_fs, weight), ss = __fdiv_rn(sum_ss, weight);
    const float snr = (double)spread > TINY ? __fdiv_rn(intensity, spread) : 0.0f;
    if (snr < min_snr || highest < __fsub_rn(background_highest, level)) return;
    if (!(fs >= 0.0f && fs <= (float)(n_fs - 1) && ss >= 0.0f && ss <= (float)(n_ss - 1))) return;
    record->fs = fs;
    record->ss = ss;
    record->intensity = intensity;
    record->highest = highest;
    record->saturated = saturated;
    record->panel = panel;
}

// One block a frame: of the records that are peaks the first MAX_PEAKS, in order; then, with drop_saturated, without
// those above max_adu (without their background, as in CrystFEL) or with a pixel above the saturation map.
// Memory: reads the panels of the records; 32 bytes of shared memory.
extern "C" __global__ void __launch_bounds__(COLLECT_THREADS)
collect_peaks(const Peak* __restrict__ records, const int* __restrict__ n_candidate,
              Peak* __restrict__ peaks,               // (frame, MAX_PEAKS)
              int* __restrict__ n_peak,               // (frame)
              const double* __restrict__ max_adu,     // (panel)
              int most, int drop_saturated)
{
    __shared__ int warp_total[COLLECT_THREADS / 32];
    const int frame = blockIdx.x, n = min(n_candidate[frame], most);
    const Peak* own = records + (long long)frame * most;
    Peak* list = peaks + (long long)frame * MAX_PEAKS;
    int found = 0, kept = 0;
    for (int first = 0; first < n && found < MAX_PEAKS; first += COLLECT_THREADS) {
        const int c = first + threadIdx.x;
        const bool is_peak = c < n && own[c].panel >= 0;
        int n_found, n_kept;
        const int at = found + prefix_sum(is_peak, warp_total, &n_found);
        bool stays = is_peak && at < MAX_PEAKS;
        if (stays && drop_saturated) stays = own[c].saturated == 0 && (double)own[c].highest <= max_adu[own[c].panel];
        const int place = kept + prefix_sum(stays, warp_total, &n_kept);
        if (stays) list[place] = own[c];
        found += n_found;
        kept += n_kept;
    }
    if (threadIdx.x == 0) n_peak[frame] = kept;
}

// Smaller for a greater intensity, greatest for none; as whole numbers, and 0 is like -0.
__device__ __forceinline__ unsigned int falling(float intensity)
{
    if (intensity != intensity) return 0xffffffffu;
    const unsigned int bits = __float_as_uint(__fadd_rn(intensity, 0.0f));
    return bits >> 31 ? bits : ~bits & 0x7fffffffu;
}

// One block a frame: the place of each peak among all when the strongest come first, equal ones as they came.
// 8 * MAX_PEAKS bytes of shared memory.
extern "C" __global__ void __launch_bounds__(COLLECT_THREADS)
order_by_strength(const Peak* __restrict__ peaks, const int* __restrict__ n_peak,
                  int* __restrict__ place_of)         // (frame, MAX_PEAKS)
{
    __shared__ unsigned long long keys[MAX_PEAKS];
    const int frame = blockIdx.x, n = n_peak[frame];
    const Peak* own = peaks + (long long)frame * MAX_PEAKS;
    int size = 2;
    while (size < n) size <<= 1;                      // at most MAX_PEAKS, a power of two
    for (int i = threadIdx.x; i < size; i += COLLECT_THREADS)
        keys[i] = i < n ? (unsigned long long)falling(own[i].intensity) << 32 | i : ~0ull;
    sort_keys(keys, size);
    for (int i = threadIdx.x; i < n; i += COLLECT_THREADS)
        place_of[(long long)frame * MAX_PEAKS + (int)(keys[i] & 0xffffffffull)] = i;
}

// One thread a peak: its scattering vector, with the double arithmetic of Detector.q in its order.
// Grid (MAX_PEAKS / COLLECT_THREADS, frames).
extern "C" __global__ void __launch_bounds__(COLLECT_THREADS)
scattering_vectors(const Peak* __restrict__ peaks, const int* __restrict__ n_peak,
                   const double* __restrict__ panels,     // (detector, panel, 9): corner, fs, ss; px
                   const int* __restrict__ detector_of,   // (frame)
                   const double* __restrict__ wavelength, // (frame); angstrom
                   const int* __restrict__ place_of,      // (frame, MAX_PEAKS): where to put it
                   double* __restrict__ q,                // (frame, MAX_PEAKS, xyz), strongest first; 1/angstrom
                   int n_panel)
{
    const int frame = blockIdx.y, i = blockIdx.x * COLLECT_THREADS + threadIdx.x;
    if (i >= n_peak[frame]) return;
    const Peak* peak = peaks + (long long)frame * MAX_PEAKS + i;
    const double* panel = panels + 9ll * ((long long)detector_of[frame] * n_panel + peak->panel);
    const double fs = __dadd_rn((double)peak->fs, 0.5), ss = __dadd_rn((double)peak->ss, 0.5);
    double ray[3];
#pragma unroll
    for (int k = 0; k < 3; k++)
        ray[k] = __dadd_rn(__dadd_rn(panel[k], __dmul_rn(fs, panel[3 + k])), __dmul_rn(ss, panel[6 + k]));
    const double length = __dsqrt_rn(__dadd_rn(__dadd_rn(__dmul_rn(ray[0], ray[0]), __dmul_rn(ray[1], ray[1])),
                                               __dmul_rn(ray[2], ray[2])));
    double* own = q + 3 * ((long long)frame * MAX_PEAKS + place_of[(long long)frame * MAX_PEAKS + i]);
    own[0] = __ddiv_rn(__ddiv_rn(ray[0], length), wavelength[frame]);
    own[1] = __ddiv_rn(__ddiv_rn(ray[1], length), wavelength[frame]);
    own[2] = __ddiv_rn(__dsub_rn(__ddiv_rn(ray[2], length), 1.0), wavelength[frame]);
}
