// SPDX-License-Identifier: GPL-3.0-or-later
// cuda_on_cpu_rt.cpp - runs the threads of one block after another as fibers in one OS thread,
// and checks their memory accesses.  The accesses come in through the calls that
// g++ -fsanitize=thread puts into the kernel; libtsan itself is never linked.
#include <link.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <algorithm>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#endif

#define API extern "C" __attribute__((visibility("default")))
struct uint3 { unsigned x, y, z; };
struct coc_ids { uint3 tid, bid; unsigned lane, warp; };

// ---- fibers --------------------------------------------------------------------------------
#if defined(__x86_64__)
asm(R"(
.text
.globl coc_switch
.hidden coc_switch
.type coc_switch,@function
coc_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size coc_switch,.-coc_switch
)");
extern "C" void coc_switch(void** save, void* to);
static void* fiber_prepare(char* top, void (*entry)()) {
  void** p = (void**)((uintptr_t)top & ~(uintptr_t)15);
  *--p = nullptr;                       // a return address that is never used; aligns the stack
  *--p = (void*)entry;
  for (int i = 0; i < 6; i++) *--p = nullptr;
  return p;
}
#elif defined(__aarch64__)
asm(R"(
.text
.globl coc_switch
.hidden coc_switch
.type coc_switch,%function
coc_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
extern "C" void coc_switch(void** save, void* to);
static void* fiber_prepare(char* top, void (*entry)()) {
  void** p = (void**)((uintptr_t)top & ~(uintptr_t)15) - 20;
  memset(p, 0, 160);
  p[11] = (void*)entry;                 // x30
  return p;
}
#else
#error "add coc_switch for this processor (or use makecontext/swapcontext)"
#endif

enum State : uint8_t { READY, AT_BLOCK, AT_WARP, DONE };
struct Thread : coc_ids {               // coc_ids first: the kernel sees this part
  unsigned lin;
  State st;
  void* sp;
  int line, kind, pred;
  uint32_t eb, ew;                      // block and warp synchronisations passed
  unsigned wmask; int wop; const void* win; void* wout; unsigned wsize; int warg, wwidth;
};
API Thread* coc_cur;
API uint3 coc_bdim, coc_gdim;
Thread* coc_cur = nullptr;
uint3 coc_bdim, coc_gdim;

// ---- reports -------------------------------------------------------------------------------
struct Report { std::string kind, text; uintptr_t pc, pc2; int line; unsigned long long count; };
static std::vector<Report> reports;
static bool aborting;
static sigjmp_buf abort_jmp;
static void* main_sp;

static void report(const char* kind, uintptr_t pc, uintptr_t pc2, int line, const char* fmt, ...) {
  for (auto& r : reports)
    if (r.kind == kind && r.pc == pc && r.line == line) { r.count++; return; }
  if (reports.size() >= 64) return;
  char b[512], w[160] = "";
  va_list ap; va_start(ap, fmt); vsnprintf(b, sizeof b, fmt, ap); va_end(ap);
  if (coc_cur)
    snprintf(w, sizeof w, " [block %u,%u,%u thread %u,%u,%u]", coc_cur->bid.x, coc_cur->bid.y, coc_cur->bid.z,
             coc_cur->tid.x, coc_cur->tid.y, coc_cur->tid.z);
  reports.push_back(Report{kind, std::string(b) + w, pc, pc2, line, 1});
}

// ---- memory known to the checker -----------------------------------------------------------
struct Cell { uint32_t stamp, wthr, rthr; uint32_t web, wew, reb, rew; uint8_t watomic, rmulti; };
struct Region {
  uintptr_t base; size_t size; bool shared, readonly;
  Cell* cell; uint8_t* init; size_t cells, inits;
};
static std::map<uintptr_t, Region*> regions;      // device memory
static std::vector<Region*> shared_regions;        // of this launch
static std::vector<std::pair<uintptr_t, uintptr_t>> module_data;
static std::recursive_mutex big;
static bool checking;
static uint32_t launch_stamp, block_stamp;
static unsigned tpb;

static void* map_zero(size_t n) {
  void* p = mmap(nullptr, n ? n : 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) { fprintf(stderr, "cuda_on_cpu: out of memory\n"); abort(); }
  return p;
}
static Region* region_new(void* p, size_t n, int inited, bool shared) {
  Region* r = new Region();
  r->base = (uintptr_t)p; r->size = n; r->shared = shared;
  r->cells = n * sizeof(Cell); r->inits = n;
  r->cell = (Cell*)map_zero(r->cells); r->init = (uint8_t*)map_zero(n);
  if (inited) memset(r->init, 1, n);
  return r;
}
static void region_free(Region* r) {
  munmap(r->cell, r->cells ? r->cells : 1); munmap(r->init, r->inits ? r->inits : 1); delete r;
}
static Region* region_find(uintptr_t a) {
  auto it = regions.upper_bound(a);
  if (it == regions.begin()) return nullptr;
  Region* r = std::prev(it)->second;
  return a - r->base < r->size ? r : nullptr;
}
API void coc_mem_add(void* p, size_t n, int inited, int readonly) {
  std::lock_guard<std::recursive_mutex> g(big);
  if (!n) return;
  auto it = regions.find((uintptr_t)p);
  if (it != regions.end()) { region_free(it->second); regions.erase(it); }
  Region* r = region_new(p, n, inited, false);
  r->readonly = readonly;
  regions[(uintptr_t)p] = r;
}
API void coc_mem_del(void* p) {
  std::lock_guard<std::recursive_mutex> g(big);
  auto it = regions.find((uintptr_t)p);
  if (it != regions.end()) { region_free(it->second); regions.erase(it); }
}
API void coc_mem_inited(const void* p, size_t n) {      // written by the host or by a copy
  std::lock_guard<std::recursive_mutex> g(big);
  Region* r = region_find((uintptr_t)p);
  if (r) memset(r->init + ((uintptr_t)p - r->base), 1, std::min(n, r->size - ((uintptr_t)p - r->base)));
}
API int coc_mem_has(const void* p, size_t n) {          // 1 if [p, p+n) lies in one allocation
  std::lock_guard<std::recursive_mutex> g(big);
  Region* r = region_find((uintptr_t)p);
  return r && (uintptr_t)p - r->base + n <= r->size;
}
// 1 if [p, p+n) has bytes never written
API int coc_mem_uninit(const void* p, size_t n) {
  std::lock_guard<std::recursive_mutex> g(big);
  Region* r = region_find((uintptr_t)p);
  if (!r) return 0;
  size_t o = (uintptr_t)p - r->base;
  return memchr(r->init + o, 0, std::min(n, r->size - o)) != nullptr;
}
// memory whose end touches a page that cannot be accessed
struct Guarded { char* map; size_t len; };
static std::map<uintptr_t, Guarded> guarded;
API void* coc_guard_alloc(size_t n, size_t align, int fill) {
  std::lock_guard<std::recursive_mutex> g(big);
  size_t pg = (size_t)sysconf(_SC_PAGESIZE), body = (n + align + pg - 1) / pg * pg;
  char* m = (char*)map_zero(body + 2 * pg);
  mprotect(m, pg, PROT_NONE); mprotect(m + pg + body, pg, PROT_NONE);
  char* p = (char*)((uintptr_t)(m + pg + body - n) & ~(uintptr_t)(align - 1));
  if (fill >= 0) memset(m + pg, fill, body);
  guarded[(uintptr_t)p] = Guarded{m, body + 2 * pg};
  return p;
}
API int coc_guard_free(void* p) {
  std::lock_guard<std::recursive_mutex> g(big);
  auto it = guarded.find((uintptr_t)p);
  if (it == guarded.end()) return 0;
  munmap(it->second.map, it->second.len); guarded.erase(it);
  return 1;
}

// ---- state of one launch -------------------------------------------------------------------
static char* stacks; static size_t stack_size = 64 * 1024; static unsigned stacks_n;
static std::vector<Thread> th;
static void (*k_fn)(void**); static void** k_params;
static char* dyn_base; static size_t dyn_size; enum { DYN_MAX = 256 * 1024 };
static uintptr_t tls_lo, tls_hi;
static uintptr_t last_lo, last_hi; static Region* last_region;
static unsigned alive, at_block;

static void to_main() { Thread* t = coc_cur; coc_switch(&t->sp, main_sp); }
static void fiber_main() {
  k_fn(k_params);
  coc_cur->st = DONE; alive--;
  to_main();
  abort();
}
[[noreturn]] static void stop_launch() { aborting = true; siglongjmp(abort_jmp, 1); }

API void* coc_dyn_shared(void) { return dyn_base; }
API void coc_fail(const char* what, int line) { report("trap", 0, 0, line, "%s", what); stop_launch(); }

static bool ordered(uint32_t thr, uint32_t eb, uint32_t ew, bool shared) {
  uint32_t me = coc_cur->lin + 1; (void)shared;
  uint32_t g = (uint32_t)((coc_cur->bid.z * (uint64_t)coc_gdim.y + coc_cur->bid.y) * coc_gdim.x + coc_cur->bid.x) * tpb + me;
  if (thr == g) return true;
  if ((thr - 1) / tpb != (g - 1) / tpb) return false;           // another block of this launch
  if (eb < coc_cur->eb) return true;
  return (((thr - 1) % tpb) >> 5) == coc_cur->warp && ew < coc_cur->ew;
}

static inline void check(uintptr_t a, unsigned n, bool write, bool atomic, uintptr_t pc) {
  if (!coc_cur) return;
  if (a - (uintptr_t)stacks < stack_size * stacks_n) return;
  if (a - (uintptr_t)th.data() < th.size() * sizeof(Thread)) return;      // threadIdx, blockIdx
  if (a == (uintptr_t)&coc_cur || a - (uintptr_t)&coc_bdim < sizeof coc_bdim || a - (uintptr_t)&coc_gdim < sizeof coc_gdim) return;
  Region* r = nullptr;
  if (a - last_lo < last_hi - last_lo) r = last_region;
  else {
    for (Region* s : shared_regions) if (a - s->base < s->size) r = s;
    if (!r) r = region_find(a);
    if (!r) {
      for (auto& d : module_data) if (a >= d.first && a < d.second) return;
      report("out of bounds", pc, 0, 0, "%s of %u bytes at an address outside every buffer", write ? "write" : "read", n);
      stop_launch();
    }
    last_lo = r->base; last_hi = r->base + r->size; last_region = r;
  }
  size_t o = a - r->base;
  if (o + n > r->size) {
    report("out of bounds", pc, 0, 0, "%s of %u bytes, %zu beyond the end of a buffer of %zu bytes", write ? "write" : "read", n,
           o + n - r->size, r->size);
    stop_launch();
  }
  if (a % n && (n & (n - 1)) == 0) {
    report("misaligned", pc, 0, 0, "access of %u bytes at an address that is no multiple of it", n);
    stop_launch();
  }
  if (write && r->readonly) report("write to input", pc, 0, 0, "write to a buffer that was declared read-only");
  uint32_t stamp = r->shared ? block_stamp : launch_stamp;
  uint32_t g = (uint32_t)((coc_cur->bid.z * (uint64_t)coc_gdim.y + coc_cur->bid.y) * coc_gdim.x + coc_cur->bid.x) * tpb + coc_cur->lin + 1;
  bool uninit = false, race = false; uint32_t other = 0; const char* how = "";
  for (unsigned i = 0; i < n; i++) {
    Cell& c = r->cell[o + i];
    if (c.stamp != stamp) {
      c = Cell(); c.stamp = stamp;
      if (r->shared) r->init[o + i] = 0;
    }
    if ((!write || atomic) && !r->init[o + i]) uninit = true;
    if (c.wthr && !(atomic && c.watomic) && !ordered(c.wthr, c.web, c.wew, r->shared)) { race = true; other = c.wthr; how = write ? "write after write" : "read after write"; }
    if (write && c.rthr && !ordered(c.rthr, c.reb, c.rew, r->shared)) { race = true; other = c.rthr; how = "write after read"; }
    else if (write && c.rmulti && c.reb >= coc_cur->eb && !(c.rew < coc_cur->ew)) { race = true; other = c.rthr; how = "write after read"; }
    if (write) { c.wthr = g; c.web = coc_cur->eb; c.wew = coc_cur->ew; c.watomic = atomic; c.rthr = 0; c.rmulti = 0; r->init[o + i] = 1; }
    else {
      if (c.rthr && c.rthr != g && !ordered(c.rthr, c.reb, c.rew, r->shared)) c.rmulti = 1;
      else if (c.rthr && c.rthr != g) c.rmulti = 0;
      c.rthr = g; c.reb = coc_cur->eb; c.rew = coc_cur->ew;
    }
  }
  if (uninit) report("uninitialised", pc, 0, 0, "read of %s memory that was never written", r->shared ? "shared" : "device");
  if (race)
    report("race", pc, 0, 0, "%s on %s memory at byte %zu, other access by block %u thread %u", how, r->shared ? "shared" : "device", o,
           (other - 1) / tpb, (other - 1) % tpb);
}
API void coc_atomic(const void* p, unsigned n, void* pc) { if (checking) check((uintptr_t)p, n, true, true, (uintptr_t)pc); }
#define PC ((uintptr_t)__builtin_return_address(0))
#define HOOK(n)                                                                              \
  API void __tsan_read##n(void* p) { check((uintptr_t)p, n, false, false, PC); }             \
  API void __tsan_write##n(void* p) { check((uintptr_t)p, n, true, false, PC); }             \
  API void __tsan_unaligned_read##n(void* p) { check((uintptr_t)p, n, false, false, PC); }   \
  API void __tsan_unaligned_write##n(void* p) { check((uintptr_t)p, n, true, false, PC); }   \
  API void __tsan_volatile_read##n(void* p) { check((uintptr_t)p, n, false, false, PC); }    \
  API void __tsan_volatile_write##n(void* p) { check((uintptr_t)p, n, true, false, PC); }
HOOK(1) HOOK(2) HOOK(4) HOOK(8) HOOK(16)
API void __tsan_read_range(void* p, size_t n) { for (size_t i = 0; i < n; i++) check((uintptr_t)p + i, 1, false, false, PC); }
API void __tsan_write_range(void* p, size_t n) { for (size_t i = 0; i < n; i++) check((uintptr_t)p + i, 1, true, false, PC); }
API void __tsan_init() {}
API void __tsan_func_entry(void*) {}
API void __tsan_func_exit() {}
API void __tsan_vptr_update(void**, void*) {}
API void __tsan_vptr_read(void**) {}
// -fsanitize=bounds,shift,integer-divide-by-zero
struct SrcLoc { const char* file; uint32_t line, col; };
#define UB(name, text, ...)                                                                  \
  API void __ubsan_handle_##name(SrcLoc* l, ##__VA_ARGS__) { if (coc_cur) { report("undefined", PC, 0, l->line, text); stop_launch(); } }
UB(out_of_bounds, "index outside an array of fixed size", void*)
UB(shift_out_of_bounds, "shift by a negative or too large amount", void*, void*)
UB(divrem_overflow, "integer division by zero or overflow", void*, void*)

// ---- synchronisation -----------------------------------------------------------------------
API int coc_sync_block(int line, int kind, int pred) {
  Thread* t = coc_cur;
  t->st = AT_BLOCK; t->line = line; t->kind = kind; t->pred = pred; at_block++;
  to_main();
  return t->pred;
}
enum { SYNC, SHFL, UP, DOWN, XOR_, BALLOT, MATCH_ANY, MATCH_ALL, RADD, RMIN, RMAX, RAND, ROR, RXOR, RMINS, RMAXS };
static void warp_complete(Thread* w0, unsigned n, unsigned mask, int op) {
  unsigned long long in[32] = {0}; char big_in[32][16];
  for (unsigned l = 0; l < n; l++) if (mask >> l & 1) {
    memset(big_in[l], 0, 16);
    if (w0[l].win) memcpy(big_in[l], w0[l].win, std::min(w0[l].wsize, 16u));
    memcpy(&in[l], big_in[l], 8);
  }
  uint32_t ew = 0;
  for (unsigned l = 0; l < n; l++) if (mask >> l & 1) ew = std::max(ew, w0[l].ew);
  for (unsigned l = 0; l < n; l++) if (mask >> l & 1) {
    Thread& t = w0[l];
    unsigned W = (unsigned)t.wwidth; int src = (int)l; unsigned long long out = 0;
    int seg = (int)(l & ~(W - 1)), hi = (int)(seg + W - 1);
    switch (op) {
      case SYNC: t.ew = ew + 1; break;
      case SHFL: src = seg + (t.warg & (int)(W - 1)); break;
      case UP: src = (int)l - t.warg; if (src < seg) src = (int)l; break;
      case DOWN: src = (int)l + t.warg; if (src > hi) src = (int)l; break;
      case XOR_: src = (int)l ^ t.warg; if (src > hi) src = (int)l; break;
      default: break;
    }
    if (op >= SHFL && op <= XOR_) {
      if (!(mask >> src & 1))
        report("warp", 0, 0, t.line, "shuffle reads lane %d, which is not in the mask %08x", src, mask);
      else memcpy(t.wout, big_in[src], t.wsize);
    } else if (op != SYNC) {
      unsigned r = op == RAND ? ~0u : op == RMIN ? ~0u : op == RMINS ? 0x7fffffffu : op == RMAXS ? 0x80000000u : 0;
      bool all = true;
      for (unsigned j = 0; j < n; j++) if (mask >> j & 1) {
        unsigned v = (unsigned)in[j];
        if (in[j] != in[l]) all = false;
        switch (op) {
          case BALLOT: r |= (v & 1u) << j; break;
          case MATCH_ANY: r |= (unsigned)(in[j] == in[l]) << j; break;
          case RADD: r += v; break;
          case RMIN: r = std::min(r, v); break;
          case RMAX: r = std::max(r, v); break;
          case RMINS: r = (unsigned)std::min((int)r, (int)v); break;
          case RMAXS: r = (unsigned)std::max((int)r, (int)v); break;
          case RAND: r &= v; break;
          case ROR: r |= v; break;
          case RXOR: r ^= v; break;
        }
      }
      if (op == MATCH_ALL) r = all ? mask : 0;
      out = r; memcpy(t.wout, &out, std::min(t.wsize, 8u));
    }
    t.st = READY;
  }
}
API void coc_warp(int op, unsigned mask, const void* in, void* out, unsigned size, int arg, int width, int line) {
  Thread* t = coc_cur;
  Thread* w0 = &th[t->lin & ~31u];
  unsigned n = std::min(32u, tpb - (t->lin & ~31u));
  if (n < 32 && mask == 0xffffffffu) mask = (1u << n) - 1;      // last, partial warp
  if (!(mask >> t->lane & 1)) { report("warp", 0, 0, line, "the calling lane %u is not in its own mask %08x", t->lane, mask); stop_launch(); }
  if (size > 16) { report("warp", 0, 0, line, "shuffle of a value of more than 16 bytes"); stop_launch(); }
  t->st = AT_WARP; t->line = line; t->wop = op; t->wmask = mask; t->win = in; t->wout = out; t->wsize = size; t->warg = arg; t->wwidth = width;
  bool all = true;
  for (unsigned l = 0; l < n && all; l++) if (mask >> l & 1) {
    if (w0[l].st != AT_WARP) all = false;
    else if (w0[l].line != line || w0[l].wop != op || w0[l].wmask != mask) all = false;
  }
  if (all) warp_complete(w0, n, mask, op);
  if (t->st != READY) to_main();
}

static void deadlock() {
  unsigned nb = 0, nw = 0, nd = 0; Thread* b = nullptr; Thread* w = nullptr;
  for (auto& t : th) { if (t.st == AT_BLOCK) nb++, b = &t; else if (t.st == AT_WARP) nw++, w = &t; else if (t.st == DONE) nd++; }
  coc_cur = w ? w : b;
  if (w) report("divergence", 0, 0, w->line, "%u threads wait in a warp function (mask %08x), %u at __syncthreads, %u have ended: the lanes in the mask never all arrive", nw, w->wmask, nb, nd);
  else report("divergence", 0, 0, b ? b->line : 0, "%u threads wait at __syncthreads, %u have ended", nb, nd);
  coc_cur = nullptr;
}

static uint64_t rng;
static uint32_t rnd() { rng ^= rng << 13; rng ^= rng >> 7; rng ^= rng << 17; return (uint32_t)(rng >> 32); }
template <class V> static void shuffle(V& v) { for (size_t i = v.size(); i > 1; i--) std::swap(v[i - 1], v[rnd() % i]); }

static void on_segv(int sig, siginfo_t* si, void* uc) {
  if (!coc_cur) { signal(sig, SIG_DFL); raise(sig); return; }
  uintptr_t pc = 0;
#if defined(__x86_64__)
  pc = (uintptr_t)((ucontext_t*)uc)->uc_mcontext.gregs[REG_RIP] + 1;
#elif defined(__aarch64__)
  pc = (uintptr_t)((ucontext_t*)uc)->uc_mcontext.pc + 4;
#endif
  report(sig == SIGFPE ? "undefined" : "out of bounds", pc, 0, 0, sig == SIGFPE ? "arithmetic fault" : "access outside a buffer hit a guard page (address %p)", si->si_addr);
  stop_launch();
}

// schedule: 0 forward, 1 backward, >= 2 random with that seed.  Returns the number of reports.
API int coc_launch(void (*fn)(void**), void** params, const unsigned* grid, const unsigned* block, size_t shmem,
                   void* tls, size_t tls_n, int check_on, unsigned schedule, int strict, int poison) {
  std::lock_guard<std::recursive_mutex> lock(big);
  reports.clear(); aborting = false; checking = check_on != 0;
  coc_bdim = uint3{block[0], block[1], block[2]}; coc_gdim = uint3{grid[0], grid[1], grid[2]};
  uint64_t nt = (uint64_t)block[0] * block[1] * block[2], nb = (uint64_t)grid[0] * grid[1] * grid[2];
  coc_cur = nullptr;
  if (!nt || nt > 1024 || block[2] > 64 || !nb || grid[0] > 0x7fffffffu || grid[1] > 65535 || grid[2] > 65535) {
    report("launch", 0, 0, 0, "grid (%u,%u,%u) of blocks (%u,%u,%u) is not allowed", grid[0], grid[1], grid[2], block[0], block[1], block[2]);
    return 1;
  }
  if (shmem + tls_n > 227 * 1024) { report("launch", 0, 0, 0, "%zu bytes of shared memory are more than any device has", shmem + tls_n); return 1; }
  tpb = (unsigned)nt; k_fn = fn; k_params = params;
  if (stacks_n < tpb) {
    if (stacks) munmap(stacks, stack_size * stacks_n);
    stacks_n = 1024; stacks = (char*)map_zero(stack_size * stacks_n);
  }
  if (!dyn_base) dyn_base = (char*)map_zero(DYN_MAX);
  dyn_size = shmem; tls_lo = (uintptr_t)tls; tls_hi = tls_lo + tls_n;
  launch_stamp++;
  for (Region* r : shared_regions) region_free(r);
  shared_regions.clear(); last_lo = last_hi = 0; last_region = nullptr;
  if (checking) {
    if (shmem) shared_regions.push_back(region_new(dyn_base, shmem, 0, true));
    if (tls_n) shared_regions.push_back(region_new(tls, tls_n, 0, true));
  }
  rng = 0x9e3779b97f4a7c15ull * (schedule + 1) + 88172645463325252ull;
  th.assign(tpb, Thread());
  std::vector<unsigned> order(tpb);
  for (unsigned i = 0; i < tpb; i++) order[i] = schedule == 1 ? tpb - 1 - i : i;
  std::vector<uint32_t> border;
  if (schedule >= 2) { border.resize(nb); for (uint64_t i = 0; i < nb; i++) border[i] = (uint32_t)i; shuffle(border); }
  static char alt[64 * 1024]; stack_t ss; memset(&ss, 0, sizeof ss); ss.ss_sp = alt; ss.ss_size = sizeof alt; stack_t oss;
  sigaltstack(&ss, &oss);
  struct sigaction sa, o1, o2, o3; memset(&sa, 0, sizeof sa); sa.sa_sigaction = on_segv; sa.sa_flags = SA_SIGINFO | SA_ONSTACK;
  sigaction(SIGSEGV, &sa, &o1); sigaction(SIGBUS, &sa, &o2); sigaction(SIGFPE, &sa, &o3);
  if (sigsetjmp(abort_jmp, 1) == 0) {
    for (uint64_t bi = 0; bi < nb && !aborting; bi++) {
      uint64_t b = schedule == 1 ? nb - 1 - bi : schedule >= 2 ? border[bi] : bi;
      uint3 bid = {(unsigned)(b % grid[0]), (unsigned)(b / grid[0] % grid[1]), (unsigned)(b / grid[0] / grid[1])};
      block_stamp++; alive = tpb; at_block = 0;
      if (poison >= 0) {
        if (shmem) memset(dyn_base, poison, shmem);
        if (tls_n) memset(tls, poison, tls_n);
      }
      unsigned i = 0;
      for (unsigned z = 0; z < block[2]; z++) for (unsigned y = 0; y < block[1]; y++) for (unsigned x = 0; x < block[0]; x++, i++) {
        Thread& t = th[i];
        t.tid = uint3{x, y, z}; t.bid = bid; t.lin = i; t.lane = i & 31; t.warp = i >> 5; t.st = READY; t.eb = t.ew = 0;
        t.sp = fiber_prepare(stacks + stack_size * (i + 1), fiber_main);
      }
      if (schedule >= 2) shuffle(order);
      while (alive) {
        bool moved = false;
        for (unsigned k = 0; k < tpb; k++) {
          Thread& t = th[order[k]];
          if (t.st != READY) continue;
          moved = true; coc_cur = &t;
          coc_switch(&main_sp, t.sp);
        }
        coc_cur = nullptr;
        if (!alive) break;
        if (at_block == alive) {
          int line = -1, kind = 0, cnt = 0; bool differ = false; Thread* w = nullptr;
          for (auto& t : th) if (t.st == AT_BLOCK) { if (line < 0) line = t.line, kind = t.kind, w = &t; differ |= t.line != line || t.kind != kind; cnt += t.pred; }
          if (differ) { coc_cur = w; report("divergence", 0, 0, line, "threads of one block wait at different __syncthreads"); break; }
          if (alive < tpb && strict) { coc_cur = w; report("divergence", 0, 0, line, "__syncthreads reached by %u threads after %u have ended", alive, tpb - alive); coc_cur = nullptr; if (strict > 1) break; }
          int r = kind == 1 ? cnt : kind == 2 ? cnt == (int)alive : cnt > 0;
          for (auto& t : th) if (t.st == AT_BLOCK) { t.st = READY; t.pred = r; t.eb++; }
          at_block = 0;
          if (schedule >= 2) shuffle(order);
        } else if (!moved) { deadlock(); aborting = true; break; }
      }
      coc_cur = nullptr;
    }
  }
  coc_cur = nullptr;
  sigaction(SIGSEGV, &o1, nullptr); sigaction(SIGBUS, &o2, nullptr); sigaction(SIGFPE, &o3, nullptr);
  sigaltstack(&oss, nullptr);
  return (int)reports.size();
}
API int coc_report(int i, char* kind, char* text, size_t n, unsigned long long* num) {
  if (i < 0 || i >= (int)reports.size()) return 0;
  snprintf(kind, n, "%s", reports[i].kind.c_str()); snprintf(text, n, "%s", reports[i].text.c_str());
  num[0] = reports[i].pc; num[1] = (unsigned long long)reports[i].line; num[2] = reports[i].count;
  return 1;
}
// the data of the shared object that contains this address (its __device__ and __constant__ variables)
static int add_module(struct dl_phdr_info* i, size_t, void* want) {
  uintptr_t w = (uintptr_t)want; bool hit = false;
  for (int k = 0; k < i->dlpi_phnum; k++) {
    auto& h = i->dlpi_phdr[k]; uintptr_t lo = i->dlpi_addr + h.p_vaddr;
    hit |= h.p_type == PT_LOAD && w >= lo && w < lo + h.p_memsz;
  }
  if (!hit) return 0;
  for (int k = 0; k < i->dlpi_phnum; k++) {
    auto& h = i->dlpi_phdr[k]; uintptr_t lo = i->dlpi_addr + h.p_vaddr;
    if (h.p_type == PT_LOAD) module_data.push_back({lo, lo + h.p_memsz});
  }
  return 1;
}
API void coc_module_data(void* inside) {
  std::lock_guard<std::recursive_mutex> g(big);
  if (module_data.empty()) dl_iterate_phdr(add_module, (void*)&coc_cur);
  dl_iterate_phdr(add_module, inside);
}
API void coc_set_stack(size_t n) { if (stacks) { munmap(stacks, stack_size * stacks_n); stacks = nullptr; stacks_n = 0; } stack_size = n; }
