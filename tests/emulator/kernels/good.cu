// SPDX-License-Identifier: GPL-3.0-or-later
// Kernels that must run clean in every mode.
#include "helper.h"

extern "C" __global__ void __launch_bounds__(256)
    saxpy(float* __restrict__ y, const float* __restrict__ x, float a, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) y[i] = __fadd_rn(__fmul_rn(a, x[i]), y[i]);
}

extern "C" __global__ void block_sum(const int* in, int* out, int n) {
  extern __shared__ int s[];
  __shared__ int warp_part[32];
  int t = threadIdx.x, i = blockIdx.x * blockDim.x + t;
  s[t] = i < n ? in[i] : 0;
  __syncthreads();
  int v = warp_sum(s[t]);
  if ((t & 31) == 0) warp_part[t >> 5] = v;
  __syncthreads();
  if (t < 32) {
    v = t < (int)(blockDim.x >> 5) ? warp_part[t] : 0;
    v = warp_sum(v);
    if (t == 0) out[blockIdx.x] = v;
  }
}

extern "C" __global__ void transpose(const unsigned short* in, unsigned short* out, int w, int h) {
  __shared__ unsigned short tile[32][33];
  int x = blockIdx.x * 32 + threadIdx.x, y = blockIdx.y * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += blockDim.y)
    if (x < w && y + j < h) tile[threadIdx.y + j][threadIdx.x] = in[(y + j) * w + x];
  __syncthreads();
  x = blockIdx.y * 32 + threadIdx.x;
  y = blockIdx.x * 32 + threadIdx.y;
  for (int j = 0; j < 32; j += blockDim.y)
    if (x < h && y + j < w) out[(y + j) * h + x] = tile[threadIdx.x][threadIdx.y + j];
}

extern "C" __global__ void histogram(const unsigned char* v, unsigned int* h, int n) {
  __shared__ unsigned int local[BINS];
  for (int i = threadIdx.x; i < BINS; i += blockDim.x) local[i] = 0;
  __syncthreads();
  for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < n; i += gridDim.x * blockDim.x)
    atomicAdd(&local[v[i]], 1u);
  __syncthreads();
  for (int i = threadIdx.x; i < BINS; i += blockDim.x)
    if (local[i]) atomicAdd(&h[i], local[i]);
}

extern "C" __global__ void warp_things(unsigned int* out) {
  int lane = threadIdx.x & 31;
  unsigned b = __ballot_sync(0xffffffffu, lane % 3 == 0);
  int up = __shfl_up_sync(0xffffffffu, lane, 1);
  int down = __shfl_down_sync(0xffffffffu, lane, 1, 8);
  float x = __shfl_xor_sync(0xffffffffu, (float)lane, 16);
  unsigned m = __match_any_sync(0xffffffffu, lane / 4);
  unsigned half = 0;
  if (lane < 16) half = __ballot_sync(0x0000ffffu, lane & 1);
  __syncwarp();
  out[threadIdx.x] =
      b + up * 3u + down * 5u + (unsigned)x * 7u + m + half + __popc(b) + __ffs(m) + __clz(lane + 1);
}

template <class T, int N>
__global__ void scale(T* p) {
  p[threadIdx.x] *= N;
}
__constant__ float table[4];
extern "C" __global__ void use_table(float* p) { p[threadIdx.x] = table[threadIdx.x & 3]; }

// All lanes read a word; behind a barrier one of them, by turns the last that
// had read it, reads and writes it.
extern "C" __global__ void hand_on(int* out, int rounds) {
  __shared__ int word;
  const int t = threadIdx.x, n = blockDim.x;
  if (t == 0) word = 1;
  __syncthreads();
  for (int k = 0; k < rounds; k++) {
    int seen = word;
    __syncthreads();
    if (t == (n - 1 + k) % n) word = word + seen;
    __syncthreads();
  }
  out[blockIdx.x * n + t] = word;
}

// The same within a warp, with one word for each warp.
extern "C" __global__ void hand_on_in_warp(int* out) {
  __shared__ int words[32];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  if (lane == 0) words[warp] = 1;
  __syncwarp();
  int seen = words[warp];
  __syncwarp();
  if (lane == 31) words[warp] = words[warp] + seen;
  __syncwarp();
  out[threadIdx.x] = words[warp];
}
