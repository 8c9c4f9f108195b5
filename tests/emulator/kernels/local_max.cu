// SPDX-License-Identifier: GPL-3.0-or-later
// a peak-search like kernel: 5x5 window in shared memory, local maximum above
// mean + k sigma of the window
#define R 2
#define T 16
extern "C" __global__ void __launch_bounds__(256)
    local_max(const unsigned short* __restrict__ im, unsigned char* __restrict__ out, int w, int h, float k) {
  __shared__ float s[T + 2 * R][T + 2 * R];
  const int x0 = blockIdx.x * T - R, y0 = blockIdx.y * T - R, t = threadIdx.y * T + threadIdx.x;
  for (int i = t; i < (T + 2 * R) * (T + 2 * R); i += T * T) {
    const int x = x0 + i % (T + 2 * R), y = y0 + i / (T + 2 * R);
    s[i / (T + 2 * R)][i % (T + 2 * R)] = (x >= 0 && x < w && y >= 0 && y < h) ? (float)im[y * w + x] : 0.f;
  }
  __syncthreads();
  const int x = blockIdx.x * T + threadIdx.x, y = blockIdx.y * T + threadIdx.y;
  if (x >= w || y >= h) return;
  const float c = s[threadIdx.y + R][threadIdx.x + R];
  float sum = 0.f, sq = 0.f;
  bool top = true;
  for (int dy = -R; dy <= R; dy++)
    for (int dx = -R; dx <= R; dx++) {
      const float v = s[threadIdx.y + R + dy][threadIdx.x + R + dx];
      sum = __fadd_rn(sum, v);
      sq = __fadd_rn(sq, __fmul_rn(v, v));
      if (v > c) top = false;
    }
  const float n = (float)((2 * R + 1) * (2 * R + 1)), m = __fdiv_rn(sum, n),
              var = __fsub_rn(__fdiv_rn(sq, n), __fmul_rn(m, m));
  out[y * w + x] = top && __fsub_rn(c, m) > __fmul_rn(k, __fsqrt_rn(var > 0.f ? var : 0.f));
}
