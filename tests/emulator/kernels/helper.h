// SPDX-License-Identifier: GPL-3.0-or-later
#pragma once
#ifndef BINS
#define BINS 256
#endif
__device__ __forceinline__ int warp_sum(int v) {
  for (int o = 16; o; o >>= 1) v += __shfl_down_sync(0xffffffffu, v, o);
  return v;
}
