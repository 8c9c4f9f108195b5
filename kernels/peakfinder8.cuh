// SPDX-License-Identifier: GPL-3.0-or-later
// What the kernels of the peak search share.
//
// Set when they are compiled (gpuidx/backends/cuda/kernels.py):
//   PIXEL            type of a pixel as it was sent
//   IS_FLOAT         1 if that is float
//   HAS_RULES        1 if pixel values of whole numbers can mean "bad"
//   SAMPLED          1 for --peakfinder8-fast
//   LANES            frames side by side, 8 or 32
//   QUEUE            pixels of a peak that a thread can hold
//   and the numbers that the CPU uses too: ROUNDS FIRST_LIMIT MASKED MAX_PEAKS TINY FALLBACK_SIGMA SMALLEST LARGEST
#pragma once

#include "block.cuh"

static_assert((MAX_PEAKS & (MAX_PEAKS - 1)) == 0, "sorting needs a power of two");

// One peak; or none, where `panel` is negative.
struct Peak {
    float fs, ss;        // centre of mass within the panel, pixel indices (not corners)
    float intensity;     // background subtracted, ADU
    float highest;       // largest value above the background, ADU
    int panel;
    int saturated;       // 1 if a pixel is above the saturation map
};

__device__ __forceinline__ float not_a_number() { return __int_as_float(0x7fc00000); }

// Whether a value says that its pixel is bad; false for NaN, which fails every comparison anyway.
__device__ __forceinline__ bool is_bad(float value, float lessthan, float morethan, float equal)
{
    return value < lessthan || value > morethan || rintf(value) == equal;
}

// Value of a pixel as float32; NaN if it is bad in this frame.
__device__ __forceinline__ float value_of(PIXEL pixel, float lessthan, float morethan, float equal)
{
    const float value = (float)pixel;
#if IS_FLOAT || HAS_RULES
    if (is_bad(value, lessthan, morethan, equal)) return not_a_number();
#endif
    return value;
}
