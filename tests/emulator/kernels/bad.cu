// SPDX-License-Identifier: GPL-3.0-or-later
// Every kernel here has one defect, which the checker must name.
extern "C" __global__ void oob_read(const float* in, float* out, int n) {
  int i = threadIdx.x;
  if (i <= n) out[0 + (i < n ? i : 0)] = in[i];
}
extern "C" __global__ void oob_write(float* out, int n) {
  int i = threadIdx.x;
  out[i] = 1.f;
}
extern "C" __global__ void oob_negative(float* out) { out[(int)threadIdx.x - 1] = 1.f; }
extern "C" __global__ void oob_dynamic(float* out) {
  extern __shared__ float s[];
  s[threadIdx.x] = 1.f;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void oob_static(float* out, int k) {
  __shared__ float s[32];
  s[threadIdx.x + k] = 1.f;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void race_shared(int* out) {
  __shared__ int s[64];
  s[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = s[63 - threadIdx.x];
}
extern "C" __global__ void race_warp(int* out) {
  __shared__ int s[32];
  s[threadIdx.x] = threadIdx.x;
  out[threadIdx.x] = s[31 - threadIdx.x];
}
extern "C" __global__ void race_second_round(int* out, const int* in) {
  __shared__ int s[64];
  int acc = 0;
  for (int k = 0; k < 3; k++) {
    s[threadIdx.x] = in[k * 64 + threadIdx.x];
    __syncthreads();
    acc += s[63 - threadIdx.x];
  }
  out[threadIdx.x] = acc;
}
extern "C" __global__ void race_global(int* out) { out[0] += threadIdx.x; }
extern "C" __global__ void race_blocks(int* out, const int* in) {
  if (threadIdx.x == 0) out[blockIdx.x] = in[blockIdx.x] + out[(blockIdx.x + 1) % gridDim.x];
}
extern "C" __global__ void race_atomic_plain(int* out) {
  atomicAdd(&out[0], 1);
  if (threadIdx.x == 5) out[1] = out[0];
}
extern "C" __global__ void uninit_shared(int* out) {
  __shared__ int s[64];
  if (threadIdx.x < 63) s[threadIdx.x] = 1;
  __syncthreads();
  out[threadIdx.x] = s[threadIdx.x];
}
extern "C" __global__ void uninit_global(int* out, const int* in) { out[threadIdx.x] = in[threadIdx.x]; }
extern "C" __global__ void diverge_exit(int* out, int n) {
  if ((int)threadIdx.x >= n) return;
  __syncthreads();
  out[threadIdx.x] = 1;
}
extern "C" __global__ void diverge_lines(int* out) {
  if (threadIdx.x < 32) {
    __syncthreads();
    out[threadIdx.x] = 1;
  } else {
    __syncthreads();
    out[threadIdx.x] = 2;
  }
}
extern "C" __global__ void warp_missing_lane(int* out) {
  int v = threadIdx.x;
  if (v < 16) v = __shfl_down_sync(0xffffffffu, v, 1);
  out[threadIdx.x] = v;
}
extern "C" __global__ void warp_outside_mask(int* out) {
  int v = threadIdx.x;
  if (v < 16) v = __shfl_sync(0x0000ffffu, v, 20);
  out[threadIdx.x] = v;
}
extern "C" __global__ void misaligned(const char* in, int* out) {
  out[threadIdx.x] = *(const int*)(in + 1 + 4 * threadIdx.x);
}
extern "C" __global__ void shift_too_far(unsigned* out, int n) { out[threadIdx.x] = 1u << (threadIdx.x + n); }
extern "C" __global__ void float_order(float* out, const float* in) {
  atomicAdd(&out[0], in[blockIdx.x * blockDim.x + threadIdx.x]);
}
extern "C" __global__ void list_order(int* list, int* n, const int* in) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (in[i] > 0) list[atomicAdd(n, 1)] = i;
}
extern "C" __global__ void writes_input(int* in, int* out) {
  out[threadIdx.x] = in[threadIdx.x];
  in[threadIdx.x] = 0;
}
extern "C" __global__ void race_after_many_reads(int* out) {
  __shared__ int word;
  if (threadIdx.x == 0) word = 1;
  __syncthreads();
  out[threadIdx.x] = word;
  if (threadIdx.x == 63) word = 2;
  __syncthreads();
  out[threadIdx.x] += word;
}
extern "C" __global__ void race_many_reads_in_warp(int* out) {
  __shared__ int word;
  if (threadIdx.x == 0) word = 1;
  __syncwarp();
  int v = word;
  if (threadIdx.x == 0) word = v + 1;
  __syncwarp();
  out[threadIdx.x] = word + v;
}
extern "C" __global__ void race_read_by_other_block(int* out, int* word) {
  out[blockIdx.x * blockDim.x + threadIdx.x] = word[0];
  __syncthreads();
  int v = word[0];
  __syncthreads();
  if (blockIdx.x == 1 && threadIdx.x == 31) word[0] = v + 1;
}
extern "C" __global__ void race_warp_sync_between_warps(int* out) {
  __shared__ int word;
  if (threadIdx.x == 0) word = 1;
  __syncthreads();
  int v = word;
  __syncwarp();
  if (threadIdx.x == 63) word = v + word;
  __syncthreads();
  out[threadIdx.x] = word;
}
