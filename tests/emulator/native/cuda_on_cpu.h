// SPDX-License-Identifier: GPL-3.0-or-later
// Explains CUDA to g++: emulator/source.py puts this in front of an unmodified .cu file.
//
// Words of the language become attributes or nothing, __shared__ variables become thread-local ones (all
// threads of a block are fibers of one OS thread), and what concerns other threads becomes a call of the
// runtime (cuda_on_cpu_rt.cpp), with the line for its reports.  Arithmetic intrinsics are plain IEEE
// operations; the source is compiled without contraction.  What is supported stands in ../README.md.
#pragma once
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <type_traits>

#define CUDA_ON_CPU 1
#define __CUDACC__ 1

#ifndef __CUDA_ARCH__
#define __CUDA_ARCH__ 900
#endif

#ifdef COC_SCAN  // first pass: find the names of the kernels
#define __global__ coc_kernel_marker
#else
#define __global__
#endif
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __shared__ __attribute__((aligned(64))) thread_local
#define __align__(n) __attribute__((aligned(n)))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __maxnreg__(n)

// ---- vector types -------------------------------------------------------------------------
#define COC_VEC(T, N, A)                                                   \
  struct alignas(A * 1) N##1 { T x; };                                     \
  struct alignas(A * 2) N##2 { T x, y; };                                  \
  struct N##3 { T x, y, z; };                                              \
  struct alignas((A * 4) > 16 ? 16 : (A * 4)) N##4 { T x, y, z, w; };      \
  static inline N##1 make_##N##1(T x) { return N##1 {x}; }                 \
  static inline N##2 make_##N##2(T x, T y) { return N##2 {x, y}; }         \
  static inline N##3 make_##N##3(T x, T y, T z) { return N##3 {x, y, z}; } \
  static inline N##4 make_##N##4(T x, T y, T z, T w) { return N##4 {x, y, z, w}; }
COC_VEC(signed char, char, 1)
COC_VEC(unsigned char, uchar, 1)
COC_VEC(short, short, 2)
COC_VEC(unsigned short, ushort, 2)
COC_VEC(int, int, 4)
COC_VEC(unsigned int, uint, 4)
COC_VEC(long long, longlong, 8)
COC_VEC(unsigned long long, ulonglong, 8)
COC_VEC(float, float, 4)
COC_VEC(double, double, 8)
#undef COC_VEC
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned a = 1, unsigned b = 1, unsigned c = 1) : x(a), y(b), z(c) {}
};

// ---- what the runtime (cuda_on_cpu_rt.cpp) offers ------------------------------------------
extern "C" {
struct coc_ids {
  uint3 tid, bid;
  unsigned lane, warp;
};
extern coc_ids* coc_cur;  // the running thread
extern uint3 coc_bdim, coc_gdim;
void* coc_dyn_shared(void);
int coc_sync_block(int line, int kind, int pred);  // 0 plain 1 count 2 and 3 or
void coc_warp(int op, unsigned mask, const void* in, void* out, unsigned size, int arg, int width, int line);
void coc_atomic(const void* p, unsigned size, void* pc);  // tells the checker
void coc_fail(const char* what, int line);
}
#define threadIdx (coc_cur->tid)
#define blockIdx (coc_cur->bid)
#define blockDim (coc_bdim)
#define gridDim (coc_gdim)
static const int warpSize = 32;

#define __syncthreads() ((void)coc_sync_block(__LINE__, 0, 0))
#define __syncthreads_count(p) coc_sync_block(__LINE__, 1, (p) ? 1 : 0)
#define __syncthreads_and(p) coc_sync_block(__LINE__, 2, (p) ? 1 : 0)
#define __syncthreads_or(p) coc_sync_block(__LINE__, 3, (p) ? 1 : 0)
#define __threadfence() ((void)0)
#define __threadfence_block() ((void)0)
#define __threadfence_system() ((void)0)
#define __trap() coc_fail("__trap()", __LINE__)
#undef assert
#define assert(c) ((c) ? (void)0 : coc_fail("assert(" #c ")", __LINE__))

// ---- warp functions ------------------------------------------------------------------------
namespace coc {
enum {
  op_SYNC,
  op_SHFL,
  op_UP,
  op_DOWN,
  op_XOR,
  op_BALLOT,
  op_MATCH_ANY,
  op_MATCH_ALL,
  op_RADD,
  op_RMIN,
  op_RMAX,
  op_RAND,
  op_ROR,
  op_RXOR,
  op_RMINS,
  op_RMAXS
};
template <class T>
static inline T shfl(int op, unsigned m, T v, int a, int w, int line) {
  T r = v;
  coc_warp(op, m, &v, &r, sizeof(T), a, w, line);
  return r;
}
static inline unsigned vote(unsigned m, int p, int line) {
  unsigned v = p ? 1u : 0u, r = 0;
  coc_warp(op_BALLOT, m, &v, &r, 4, 0, 32, line);
  return r;
}
template <class T>
static inline unsigned match(int op, unsigned m, T v, int* pred, int line) {
  unsigned long long in = 0, r = 0;
  memcpy(&in, &v, sizeof(T));
  coc_warp(op, m, &in, &r, 8, 0, 32, line);
  if (pred) *pred = (unsigned)r != 0;
  return (unsigned)r;
}
template <class T>
static inline T red(int op, unsigned m, T v, int line) {
  T r = v;
  coc_warp(op, m, &v, &r, 4, 0, 32, line);
  return r;
}
static inline int opt(int w = 32) { return w; }
}  // namespace coc
#define __syncwarp(...) coc_warp(coc::op_SYNC, coc_mask(__VA_ARGS__), nullptr, nullptr, 0, 0, 32, __LINE__)
static inline unsigned coc_mask(unsigned m = 0xffffffffu) { return m; }
#define __shfl_sync(m, v, s, ...) coc::shfl(coc::op_SHFL, m, v, s, coc::opt(__VA_ARGS__), __LINE__)
#define __shfl_up_sync(m, v, s, ...) coc::shfl(coc::op_UP, m, v, s, coc::opt(__VA_ARGS__), __LINE__)
#define __shfl_down_sync(m, v, s, ...) coc::shfl(coc::op_DOWN, m, v, s, coc::opt(__VA_ARGS__), __LINE__)
#define __shfl_xor_sync(m, v, s, ...) coc::shfl(coc::op_XOR, m, v, s, coc::opt(__VA_ARGS__), __LINE__)
#define __ballot_sync(m, p) coc::vote(m, (p) ? 1 : 0, __LINE__)
#define __any_sync(m, p) (coc::vote(m, (p) ? 1 : 0, __LINE__) != 0)
#define __all_sync(m, p) (coc::vote(m, (p) ? 0 : 1, __LINE__) == 0)
#define __match_any_sync(m, v) coc::match(coc::op_MATCH_ANY, m, v, nullptr, __LINE__)
#define __match_all_sync(m, v, pp) coc::match(coc::op_MATCH_ALL, m, v, pp, __LINE__)
#define __reduce_add_sync(m, v) coc::red(coc::op_RADD, m, v, __LINE__)
#define __reduce_min_sync(m, v) \
  coc::red(std::is_signed<decltype(v)>::value ? coc::op_RMINS : coc::op_RMIN, m, v, __LINE__)
#define __reduce_max_sync(m, v) \
  coc::red(std::is_signed<decltype(v)>::value ? coc::op_RMAXS : coc::op_RMAX, m, v, __LINE__)
#define __reduce_and_sync(m, v) coc::red(coc::op_RAND, m, v, __LINE__)
#define __reduce_or_sync(m, v) coc::red(coc::op_ROR, m, v, __LINE__)
#define __reduce_xor_sync(m, v) coc::red(coc::op_RXOR, m, v, __LINE__)
// __activemask() depends on the scheduling of real hardware: it is left out on purpose.

// ---- atomics (one OS thread: plain code; the checker is told) -------------------------------
#define COC_NS __attribute__((no_sanitize("thread"), noinline, unused))
template <class T, class F>
static COC_NS T coc_rmw(T* p, F f) {
  coc_atomic(p, sizeof(T), __builtin_return_address(0));
  T o = *p;
  *p = f(o);
  return o;
}
#define COC_T template <class T, class U, class = typename std::enable_if<std::is_arithmetic<T>::value>::type>
COC_T static inline T atomicAdd(T* p, U v) {
  return coc_rmw(p, [=](T o) { return (T)(o + (T)v); });
}
COC_T static inline T atomicSub(T* p, U v) {
  return coc_rmw(p, [=](T o) { return (T)(o - (T)v); });
}
COC_T static inline T atomicMax(T* p, U v) {
  return coc_rmw(p, [=](T o) { return o > (T)v ? o : (T)v; });
}
COC_T static inline T atomicMin(T* p, U v) {
  return coc_rmw(p, [=](T o) { return o < (T)v ? o : (T)v; });
}
COC_T static inline T atomicAnd(T* p, U v) {
  return coc_rmw(p, [=](T o) { return (T)(o & (T)v); });
}
COC_T static inline T atomicOr(T* p, U v) {
  return coc_rmw(p, [=](T o) { return (T)(o | (T)v); });
}
COC_T static inline T atomicXor(T* p, U v) {
  return coc_rmw(p, [=](T o) { return (T)(o ^ (T)v); });
}
COC_T static inline T atomicExch(T* p, U v) {
  return coc_rmw(p, [=](T) { return (T)v; });
}
template <class T, class U, class V>
static inline T atomicCAS(T* p, U c, V v) {
  return coc_rmw(p, [=](T o) { return o == (T)c ? (T)v : o; });
}
static inline unsigned atomicInc(unsigned* p, unsigned v) {
  return coc_rmw(p, [=](unsigned o) { return o >= v ? 0u : o + 1u; });
}
static inline unsigned atomicDec(unsigned* p, unsigned v) {
  return coc_rmw(p, [=](unsigned o) { return o == 0 || o > v ? v : o - 1u; });
}
#define atomicAdd_block atomicAdd
#define atomicAdd_system atomicAdd

// ---- arithmetic ----------------------------------------------------------------------------
template <class A, class B>
static inline typename std::common_type<A, B>::type min(A a, B b) {
  typedef typename std::common_type<A, B>::type C;
  if (std::is_floating_point<C>::value) return (C)(a != a ? b : b != b ? a : (C)a < (C)b ? a : b);
  return (C)a < (C)b ? (C)a : (C)b;
}
template <class A, class B>
static inline typename std::common_type<A, B>::type max(A a, B b) {
  typedef typename std::common_type<A, B>::type C;
  if (std::is_floating_point<C>::value) return (C)(a != a ? b : b != b ? a : (C)a > (C)b ? a : b);
  return (C)a > (C)b ? (C)a : (C)b;
}
template <class T>
static inline T __ldg(const T* p) {
  return *p;
}
template <class T>
static inline T __ldcg(const T* p) {
  return *p;
}
template <class T>
static inline T __ldcs(const T* p) {
  return *p;
}
template <class T>
static inline T __ldca(const T* p) {
  return *p;
}
template <class T>
static inline void __stcs(T* p, T v) {
  *p = v;
}
template <class T>
static inline void __stcg(T* p, T v) {
  *p = v;
}
static inline int __popc(unsigned v) { return __builtin_popcount(v); }
static inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
static inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
static inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
static inline int __ffs(int v) { return __builtin_ffs(v); }
static inline int __ffsll(long long v) { return __builtin_ffsll(v); }
static inline unsigned __brev(unsigned v) {
  unsigned r = 0;
  for (int i = 0; i < 32; i++) r |= ((v >> i) & 1u) << (31 - i);
  return r;
}
static inline unsigned __byte_perm(unsigned a, unsigned b, unsigned s) {
  unsigned long long x = ((unsigned long long)b << 32) | a;
  unsigned r = 0;
  for (int i = 0; i < 4; i++) r |= (unsigned)((x >> (8 * ((s >> (4 * i)) & 7))) & 255) << (8 * i);
  return r;
}
static inline unsigned __funnelshift_l(unsigned lo, unsigned hi, unsigned s) {
  s &= 31;
  return s ? (hi << s) | (lo >> (32 - s)) : hi;
}
static inline unsigned __funnelshift_r(unsigned lo, unsigned hi, unsigned s) {
  s &= 31;
  return s ? (lo >> s) | (hi << (32 - s)) : lo;
}
static inline int __mul24(int a, int b) { return ((a << 8) >> 8) * ((b << 8) >> 8); }
static inline unsigned __umulhi(unsigned a, unsigned b) {
  return (unsigned)(((unsigned long long)a * b) >> 32);
}
static inline int __mulhi(int a, int b) { return (int)(((long long)a * b) >> 32); }
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
template <class R, class T>
static inline R coc_bits(T v) {
  static_assert(sizeof(R) == sizeof(T), "");
  R r;
  memcpy(&r, &v, sizeof r);
  return r;
}
static inline int __float_as_int(float v) { return coc_bits<int>(v); }
static inline unsigned __float_as_uint(float v) { return coc_bits<unsigned>(v); }
static inline float __int_as_float(int v) { return coc_bits<float>(v); }
static inline float __uint_as_float(unsigned v) { return coc_bits<float>(v); }
static inline long long __double_as_longlong(double v) { return coc_bits<long long>(v); }
static inline double __longlong_as_double(long long v) { return coc_bits<double>(v); }
// single IEEE operations: never contracted, on the GPU as here
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
static inline double __dadd_rn(double a, double b) { return a + b; }
static inline double __dsub_rn(double a, double b) { return a - b; }
static inline double __dmul_rn(double a, double b) { return a * b; }
static inline double __ddiv_rn(double a, double b) { return a / b; }
static inline double __dsqrt_rn(double a) { return sqrt(a); }
static inline double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
template <class R>
static inline R coc_sat(double v) {  // the GPU saturates, NaN gives 0
  double lo = (double)(R)(std::is_signed<R>::value ? (R)1 << (sizeof(R) * 8 - 1) : 0);
  double hi = ldexp(1.0, (int)sizeof(R) * 8 - (std::is_signed<R>::value ? 1 : 0));
  if (v != v) return 0;
  if (v < lo) return (R)lo;
  if (v >= hi) return (R)(~(R)0 ^ (std::is_signed<R>::value ? (R)1 << (sizeof(R) * 8 - 1) : 0));
  return (R)v;
}
static inline int __float2int_rn(float v) { return coc_sat<int>(rint((double)v)); }
static inline int __float2int_rz(float v) { return coc_sat<int>(trunc((double)v)); }
static inline int __float2int_rd(float v) { return coc_sat<int>(floor((double)v)); }
static inline int __float2int_ru(float v) { return coc_sat<int>(ceil((double)v)); }
static inline unsigned __float2uint_rn(float v) { return coc_sat<unsigned>(rint((double)v)); }
static inline unsigned __float2uint_rz(float v) { return coc_sat<unsigned>(trunc((double)v)); }
static inline long long __float2ll_rn(float v) { return coc_sat<long long>(rint((double)v)); }
static inline int __double2int_rn(double v) { return coc_sat<int>(rint(v)); }
static inline int __double2int_rz(double v) { return coc_sat<int>(trunc(v)); }
static inline long long __double2ll_rn(double v) { return coc_sat<long long>(rint(v)); }
static inline float __double2float_rn(double v) { return (float)v; }
static inline float __int2float_rn(int v) { return (float)v; }
static inline float __uint2float_rn(unsigned v) { return (float)v; }
static inline float __ll2float_rn(long long v) { return (float)v; }
static inline double __ll2double_rn(long long v) { return (double)v; }
static inline float rsqrtf(float a) { return 1.0f / sqrtf(a); }  // real hardware: up to 2 ulp off
static inline double rsqrt(double a) { return 1.0 / sqrt(a); }
static inline float __saturatef(float a) { return a < 0 || a != a ? 0.f : a > 1 ? 1.f : a; }
static inline long long clock64() { return 0; }
#undef CUDART_INF_F
#define CUDART_INF_F __int_as_float(0x7f800000)

// ---- registration of kernels ---------------------------------------------------------------
struct coc_kernel {
  const char* name;
  void (*call)(void**);
  void (*info)(int*, int*, int*, int);
  int nparam;
};
namespace coc {
template <class... A>
struct pack {};
template <class F>
struct sig;
template <class... A>
struct sig<void (*)(A...)> {
  enum { n = sizeof...(A) };
  typedef pack<A...> args;
};
template <class T>
struct kind {  // 0 other 1 signed 2 unsigned 3 float 4 pointer
  enum {
    v = std::is_pointer<T>::value      ? 4
    : std::is_floating_point<T>::value ? 3
    : std::is_integral<T>::value       ? (std::is_signed<T>::value ? 1 : 2)
                                       : 0
  };
};
template <class T>
struct strip {
  typedef typename std::remove_cv<T>::type t;
};
template <class T>
struct elem {
  enum { v = 0 };
};
template <class T>
struct elem<T*> {
  enum { v = std::is_arithmetic<T>::value ? sizeof(T) : 0 };
};
template <>
struct elem<void*> {
  enum { v = 0 };
};
template <>
struct elem<const void*> {
  enum { v = 0 };
};
template <size_t... I>
struct seq {};
template <size_t N, size_t... I>
struct mk : mk<N - 1, N - 1, I...> {};
template <size_t... I>
struct mk<0, I...> {
  typedef seq<I...> t;
};
template <class T>
static COC_NS T arg(void** p, size_t i) {
  return *(T*)p[i];
}
template <auto F, class... A, size_t... I>
static inline void call_(void** p, pack<A...>, seq<I...>) {
  (void)p;
  F(arg<typename strip<A>::t>(p, I)...);
}
template <auto F>
static void call(void** p) {
  typedef sig<decltype(F)> s;
  call_<F>(p, typename s::args(), typename mk<s::n>::t());
}
template <class... A>
static inline void info_(int* k, int* z, int* e, pack<A...>) {
  int kk[] = {0, kind<typename strip<A>::t>::v...}, zz[] = {0, (int)sizeof(A)...},
      ee[] = {0, elem<typename strip<A>::t>::v...};
  for (size_t i = 0; i < sizeof...(A); i++) {
    k[i] = kk[i + 1];
    z[i] = zz[i + 1];
    e[i] = ee[i + 1];
  }
}
template <auto F>
static void info(int* k, int* z, int* e, int) {
  info_(k, z, e, typename sig<decltype(F)>::args());
}
}  // namespace coc
