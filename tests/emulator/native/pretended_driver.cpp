// SPDX-License-Identifier: GPL-3.0-or-later
// pretended_driver.cpp - a libcuda.so.1 without a GPU.  Device memory is host memory, kernels run in
// cuda_on_cpu_rt, streams are queues that run when something waits for them ("lazy"), at once
// ("eager") or in a random legal order.  Also holds a libnvrtc, whose programs are built by a
// callback (pretended_cuda.py -> cuda_on_cpu.build).
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))
typedef int R;                       // CUresult
enum { OK = 0, INVALID = 1, OOM = 2, NOT_INIT = 3, NO_DEVICE = 100, BAD_CTX = 201, NO_IMAGE = 200, BAD_HANDLE = 400, NOT_FOUND = 500, NOT_READY = 600,
       ILLEGAL = 700, LAUNCH_RES = 701, LAUNCH_FAILED = 719, NOT_SUPPORTED = 801 };
typedef uint64_t Dptr;

extern "C" {                         // cuda_on_cpu_rt
void* coc_guard_alloc(size_t, size_t, int); int coc_guard_free(void*);
void coc_mem_add(void*, size_t, int, int); void coc_mem_del(void*); void coc_mem_inited(const void*, size_t); int coc_mem_has(const void*, size_t);
int coc_mem_uninit(const void*, size_t);
int coc_launch(void (*)(void**), void**, const unsigned*, const unsigned*, size_t, void*, size_t, int, unsigned, int, int);
int coc_report(int, char*, char*, size_t, unsigned long long*);
void coc_module_data(void*);
}

static std::recursive_mutex big;
#define LOCK std::lock_guard<std::recursive_mutex> lock_(big)
static bool verbose = getenv("PRETENDED_CUDA_VERBOSE") != nullptr;
static int n_devices = 1, cc_major = 9, cc_minor = 0, schedule = 0, checking = 0, fail_after = -1;
static size_t total_mem = (size_t)8 << 30, used_mem = 0;
enum Order { EAGER, LAZY, RANDOM };
static Order order = LAZY;
static uint64_t rng = 88172645463325252ull;
static uint32_t rnd() { rng ^= rng << 13; rng ^= rng >> 7; rng ^= rng << 17; return (uint32_t)(rng >> 32); }
static R sticky = OK;                // as on a real device, a faulty kernel spoils the context
static std::string messages;
static std::map<std::string, uint64_t> counts;
static void say(const std::string& s) { messages += s + "\n"; if (verbose) fprintf(stderr, "pretended cuda: %s\n", s.c_str()); }

// ---- streams -------------------------------------------------------------------------------
struct Event;
struct Op { std::function<void()> run; uint64_t seq; std::string what; };
struct Stream { bool blocking = true; std::deque<Op> q; uint64_t done = 0, queued = 0; std::vector<std::pair<Stream*, uint64_t>> dummy; };
struct Event { Stream* s = nullptr; uint64_t upto = 0; bool timing = true; double t = 0; };
static Stream legacy, per_thread;
static std::set<Stream*> streams = {&legacy, &per_thread};
static Stream* st(void* h) { return h == nullptr || h == (void*)1 ? &legacy : h == (void*)2 ? &per_thread : (Stream*)h; }
static bool known(Stream* s) { return streams.count(s) != 0; }

static void run_to(Stream* s, uint64_t seq) {            // run the ops of s numbered up to seq
  while (!s->q.empty() && s->q.front().seq <= seq) {
    Op op = std::move(s->q.front()); s->q.pop_front();
    op.run();                                            // may run other streams first
    s->done = op.seq;
  }
}
static void run_all(Stream* s) { run_to(s, s->queued); }
static void run_everything() { for (Stream* s : std::set<Stream*>(streams)) run_all(s); }
static void maybe_progress() {                           // random mode: something may run at any time
  if (order != RANDOM) return;
  while (rnd() & 1) {
    std::vector<Stream*> v; for (Stream* s : streams) if (!s->q.empty()) v.push_back(s);
    if (v.empty()) return;
    Stream* s = v[rnd() % v.size()]; run_to(s, s->q.front().seq);
  }
}
static void push(Stream* s, const char* what, std::function<void()> f) {
  counts[what]++;
  std::vector<std::pair<Stream*, uint64_t>> deps;        // the rules of the legacy default stream
  if (s == &legacy) { for (Stream* o : streams) if (o != s && o->blocking && o->done < o->queued) deps.push_back({o, o->queued}); }
  else if (s->blocking && legacy.done < legacy.queued) deps.push_back({&legacy, legacy.queued});
  uint64_t n = ++s->queued;
  s->q.push_back(Op{[=] { for (auto& d : deps) if (known(d.first)) run_to(d.first, d.second); f(); }, n, what});
  if (order == EAGER) run_all(s);
  maybe_progress();
}
static R finish(Stream* s) { run_all(s); return sticky; }

// ---- memory --------------------------------------------------------------------------------
static std::map<uintptr_t, size_t> dev_mem, host_mem;
static bool in(const std::map<uintptr_t, size_t>& m, const void* p, size_t n, uintptr_t* base = nullptr) {
  auto it = m.upper_bound((uintptr_t)p);
  if (it == m.begin()) return false;
  --it; if (base) *base = it->first;
  return (uintptr_t)p - it->first + n <= it->second && ((uintptr_t)p - it->first < it->second || !n);
}
API R cuMemAlloc_v2(Dptr* p, size_t n) {
  LOCK; counts["malloc"]++; if (!n) return INVALID;
  if (sticky) return sticky;
  if (used_mem + n > total_mem || fail_after == 0) { fail_after = -1; return OOM; }
  if (fail_after > 0) fail_after--;
  void* m = coc_guard_alloc((n + 511) / 512 * 512, 512, 0xCB);
  coc_mem_add(m, n, 0, 0); dev_mem[(uintptr_t)m] = n; used_mem += n; *p = (Dptr)m; return OK;
}
API R cuMemFree_v2(Dptr p) {
  LOCK; counts["free"]++; if (!p) return OK;
  run_everything();
  auto it = dev_mem.find(p); if (it == dev_mem.end()) return INVALID;
  used_mem -= it->second; dev_mem.erase(it); coc_mem_del((void*)p); coc_guard_free((void*)p); return OK;
}
API R cuMemAllocAsync(Dptr* p, size_t n, void*) { return cuMemAlloc_v2(p, n); }
API R cuMemAllocFromPoolAsync(Dptr* p, size_t n, void*, void*) { return cuMemAlloc_v2(p, n); }
API R cuMemFreeAsync(Dptr p, void* s) { LOCK; push(st(s), "free_async", [=] { auto it = dev_mem.find(p); if (it != dev_mem.end()) { used_mem -= it->second; dev_mem.erase(it); coc_mem_del((void*)p); coc_guard_free((void*)p); } }); return OK; }
API R cuMemHostAlloc(void** p, size_t n, unsigned) { LOCK; counts["pinned"]++; *p = aligned_alloc(4096, (n + 4095) / 4096 * 4096); if (!*p) return OOM; memset(*p, 0xCB, n); host_mem[(uintptr_t)*p] = n; return OK; }
API R cuMemAllocHost_v2(void** p, size_t n) { return cuMemHostAlloc(p, n, 0); }
API R cuMemFreeHost(void* p) { LOCK; run_everything(); if (!host_mem.erase((uintptr_t)p)) return INVALID; free(p); return OK; }
static std::map<uintptr_t, size_t> registered;                 // the part of host_mem that is not ours to free
API R cuMemHostRegister_v2(void* p, size_t n, unsigned) {
  LOCK; if (!p || !n) return INVALID;
  if (sticky) return sticky;
  auto next = host_mem.lower_bound((uintptr_t)p + n);
  if (next != host_mem.begin() && std::prev(next)->first + std::prev(next)->second > (uintptr_t)p) return (R)712;   // already registered, or a part of it
  counts["register"]++; host_mem[(uintptr_t)p] = registered[(uintptr_t)p] = n; return OK;
}
API R cuMemHostUnregister(void* p) { LOCK; run_everything(); if (!registered.erase((uintptr_t)p)) return (R)713; host_mem.erase((uintptr_t)p); return OK; }
API R cuMemHostGetDevicePointer_v2(Dptr* d, void* p, unsigned) { *d = (Dptr)p; return OK; }
API R cuMemHostGetFlags(unsigned* f, void*) { *f = 0; return OK; }
API R cuMemGetInfo_v2(size_t* f, size_t* t) { LOCK; *f = total_mem - used_mem; *t = total_mem; return OK; }
API R cuMemGetAddressRange_v2(Dptr* b, size_t* n, Dptr p) { LOCK; uintptr_t base; if (!in(dev_mem, (void*)p, 0, &base)) return NOT_FOUND; if (b) *b = base; if (n) *n = dev_mem[base]; return OK; }

static bool bad_range(const char* what, const void* p, size_t n, bool dev) {
  if (!dev || in(dev_mem, p, n)) return false;
  say(std::string(what) + ": " + std::to_string(n) + " bytes do not lie in one device allocation"); return true;
}
static void move(void* d, const void* s, size_t n) { memmove(d, s, n); coc_mem_inited(d, n); }
static bool is_dev(const void* p) { return in(dev_mem, p, 0); }
static R copy(void* d, const void* s, size_t n, Stream* str, bool async) {
  if (sticky) return sticky;
  if (!n) return OK;
  bool dd = is_dev(d), sd = is_dev(s);
  const char* what = sd && dd ? "copy_dd" : sd ? "copy_dh" : dd ? "copy_hd" : "copy_hh";
  if (bad_range(what, d, n, dd) || bad_range(what, s, n, sd)) return INVALID;
  if (sd && !dd && coc_mem_uninit(s, n)) say("copy to the host of device memory that was never written");
  bool hp = (dd || in(host_mem, d, n)) && (sd || in(host_mem, s, n));   // all sides pinned or device
  if (async && (hp || order == EAGER)) { push(str, what, [=] { move(d, s, n); }); return OK; }
  if (async && !sd) {                 // pageable source: the driver has read it when the call returns
    auto keep = std::make_shared<std::string>((const char*)s, n);
    push(str, what, [=] { move(d, keep->data(), n); }); return OK;
  }
  push(str, what, [=] { move(d, s, n); });               // waits, as cudaMemcpy does
  return finish(str);
}
API R cuMemcpy(Dptr d, Dptr s, size_t n) { LOCK; return copy((void*)d, (void*)s, n, &legacy, false); }
API R cuMemcpyAsync(Dptr d, Dptr s, size_t n, void* h) { LOCK; return copy((void*)d, (void*)s, n, st(h), true); }
API R cuMemcpyHtoD_v2(Dptr d, const void* s, size_t n) { LOCK; return copy((void*)d, s, n, &legacy, false); }
API R cuMemcpyDtoH_v2(void* d, Dptr s, size_t n) { LOCK; return copy(d, (void*)s, n, &legacy, false); }
API R cuMemcpyDtoD_v2(Dptr d, Dptr s, size_t n) { LOCK; return copy((void*)d, (void*)s, n, &legacy, true); }
API R cuMemcpyHtoDAsync_v2(Dptr d, const void* s, size_t n, void* h) { LOCK; return copy((void*)d, s, n, st(h), true); }
API R cuMemcpyDtoHAsync_v2(void* d, Dptr s, size_t n, void* h) { LOCK; return copy(d, (void*)s, n, st(h), true); }
API R cuMemcpyDtoDAsync_v2(Dptr d, Dptr s, size_t n, void* h) { LOCK; return copy((void*)d, (void*)s, n, st(h), true); }
API R cuMemcpyPeerAsync(Dptr d, void*, Dptr s, void*, size_t n, void* h) { LOCK; return copy((void*)d, (void*)s, n, st(h), true); }
API R cuMemcpyPeer(Dptr d, void*, Dptr s, void*, size_t n) { LOCK; return copy((void*)d, (void*)s, n, &legacy, true); }
struct Copy2D { size_t sx, sy; unsigned st_; const void* sh; Dptr sd; void* sa; size_t sp; size_t dx, dy; unsigned dt; void* dh; Dptr dd; void* da; size_t dp; size_t w, h; };
static R copy2d(const Copy2D* c, Stream* s, bool async) {
  char* d = (c->dt == 1 ? (char*)c->dh : (char*)c->dd) + c->dy * c->dp + c->dx; const char* a = (c->st_ == 1 ? (const char*)c->sh : (const char*)c->sd) + c->sy * c->sp + c->sx;
  size_t w = c->w, h = c->h, sp = c->sp, dp = c->dp;
  push(s, "copy_2d", [=] { for (size_t y = 0; y < h; y++) move(d + y * dp, a + y * sp, w); });
  return async ? sticky : finish(s);
}
API R cuMemcpy2DAsync_v2(const Copy2D* c, void* h) { LOCK; return copy2d(c, st(h), true); }
API R cuMemcpy2D_v2(const Copy2D* c) { LOCK; return copy2d(c, &legacy, false); }
API R cuMemcpy2DUnaligned_v2(const Copy2D* c) { LOCK; return copy2d(c, &legacy, false); }
template <class T> static R fill(Dptr d, T v, size_t n, Stream* s) {
  if (sticky) return sticky;
  if (bad_range("memset", (void*)d, n * sizeof(T), true)) return INVALID;
  push(s, "memset", [=] { T* p = (T*)d; for (size_t i = 0; i < n; i++) p[i] = v; coc_mem_inited(p, n * sizeof(T)); }); return OK;
}
API R cuMemsetD8_v2(Dptr d, unsigned char v, size_t n) { LOCK; return fill(d, v, n, &legacy); }
API R cuMemsetD16_v2(Dptr d, unsigned short v, size_t n) { LOCK; return fill(d, v, n, &legacy); }
API R cuMemsetD32_v2(Dptr d, unsigned v, size_t n) { LOCK; return fill(d, v, n, &legacy); }
API R cuMemsetD8Async(Dptr d, unsigned char v, size_t n, void* h) { LOCK; return fill(d, v, n, st(h)); }
API R cuMemsetD16Async(Dptr d, unsigned short v, size_t n, void* h) { LOCK; return fill(d, v, n, st(h)); }
API R cuMemsetD32Async(Dptr d, unsigned v, size_t n, void* h) { LOCK; return fill(d, v, n, st(h)); }
static R attr1(void* out, int a, Dptr p) {
  uintptr_t base = 0; bool d = in(dev_mem, (void*)p, 0, &base), h = !d && in(host_mem, (void*)p, 0, &base);
  switch (a) {
    case 1: *(void**)out = d || h ? (void*)0xC0 : nullptr; return d || h ? OK : INVALID;
    case 2: *(unsigned*)out = d ? 2 : h ? 1 : 0; return d || h ? OK : INVALID;
    case 3: case 4: *(Dptr*)out = d || h ? p : 0; return d || h ? OK : INVALID;
    case 8: *(unsigned*)out = 0; return OK;                                   // managed
    case 9: *(int*)out = d || h ? 0 : -2; return d || h ? OK : INVALID;        // device ordinal
    case 11: *(Dptr*)out = base; return d || h ? OK : INVALID;
    case 12: *(size_t*)out = d ? dev_mem[base] : h ? host_mem[base] : 0; return d || h ? OK : INVALID;
    case 7: *(uint64_t*)out = base; return OK;
    default: *(unsigned*)out = 0; return OK;
  }
}
API R cuPointerGetAttribute(void* out, int a, Dptr p) { LOCK; return attr1(out, a, p); }
API R cuPointerGetAttributes(unsigned n, int* a, void** out, Dptr p) { LOCK; for (unsigned i = 0; i < n; i++) attr1(out[i], a[i], p); return OK; }

// ---- streams and events, the interface -----------------------------------------------------
API R cuStreamCreateWithPriority(void** s, unsigned f, int) { LOCK; Stream* n = new Stream; n->blocking = !(f & 1); streams.insert(n); *s = n; return sticky; }
API R cuStreamCreate(void** s, unsigned f) { return cuStreamCreateWithPriority(s, f, 0); }
API R cuStreamDestroy_v2(void* s) { LOCK; if (!known((Stream*)s)) return BAD_HANDLE; run_all((Stream*)s); streams.erase((Stream*)s); delete (Stream*)s; return OK; }
API R cuStreamSynchronize(void* s) { LOCK; counts["sync_stream"]++; if (!known(st(s))) return BAD_HANDLE; if (st(s) == &legacy) for (Stream* o : std::set<Stream*>(streams)) if (o->blocking) run_all(o); return finish(st(s)); }
API R cuStreamQuery(void* s) { LOCK; if (!known(st(s))) return BAD_HANDLE; Stream* q = st(s); if (q->q.empty()) return sticky; run_to(q, q->q.front().seq); return q->q.empty() ? sticky : (R)NOT_READY; }
API R cuStreamWaitEvent(void* s, void* e, unsigned) {
  LOCK; Event* ev = (Event*)e; if (!known(st(s))) return BAD_HANDLE; if (!ev->s) return OK;
  Stream* o = ev->s; uint64_t upto = ev->upto;
  push(st(s), "wait_event", [=] { if (known(o)) run_to(o, upto); }); return OK;
}
API R cuStreamGetFlags(void* s, unsigned* f) { *f = st(s)->blocking ? 0 : 1; return OK; }
API R cuStreamGetPriority(void*, int* p) { *p = 0; return OK; }
API R cuStreamIsCapturing(void*, int* c) { *c = 0; return OK; }
API R cuStreamGetCaptureInfo_v2(void*, int* c, ...) { *c = 0; return OK; }
API R cuStreamGetCtx(void*, void** c) { *c = (void*)0xC0; return OK; }
API R cuStreamGetId(void* s, unsigned long long* id) { *id = (unsigned long long)(uintptr_t)s; return OK; }
API R cuStreamAddCallback(void* s, void (*cb)(void*, int, void*), void* u, unsigned) { LOCK; push(st(s), "callback", [=] { cb(s, sticky, u); }); return OK; }
API R cuLaunchHostFunc(void* s, void (*f)(void*), void* u) { LOCK; push(st(s), "host_func", [=] { f(u); }); return OK; }
API R cuEventCreate(void** e, unsigned f) { LOCK; Event* v = new Event; v->timing = !(f & 2); *e = v; return sticky; }
API R cuEventDestroy_v2(void*) { return OK; }                   // kept: a queue may still name it
API R cuEventRecord(void* e, void* s) { LOCK; Event* v = (Event*)e; if (!known(st(s))) return BAD_HANDLE; push(st(s), "record", [=] { v->t += 0; }); v->s = st(s); v->upto = st(s)->queued; return OK; }
API R cuEventRecordWithFlags(void* e, void* s, unsigned) { return cuEventRecord(e, s); }
API R cuEventSynchronize(void* e) { LOCK; counts["sync_event"]++; Event* v = (Event*)e; if (v->s && known(v->s)) run_to(v->s, v->upto); return sticky; }
API R cuEventQuery(void* e) { LOCK; Event* v = (Event*)e; if (!v->s || !known(v->s) || v->s->done >= v->upto) return sticky; if (!v->s->q.empty()) run_to(v->s, v->s->q.front().seq); return v->s->done >= v->upto ? sticky : (R)NOT_READY; }
API R cuEventElapsedTime(float* ms, void* a, void* b) { Event *x = (Event*)a, *y = (Event*)b; if (!x->timing || !y->timing) return BAD_HANDLE; *ms = 1.0f; return OK; }
API R cuEventElapsedTime_v2(float* ms, void* a, void* b) { return cuEventElapsedTime(ms, a, b); }

// ---- modules and launches ------------------------------------------------------------------
struct CocKernel { const char* name; void (*call)(void**); void (*info)(int*, int*, int*, int); int nparam; };
struct Module; 
struct Function { Module* m; std::string name; CocKernel* k[2] = {nullptr, nullptr}; int nparam; std::vector<int> size; int max_dyn = 48 * 1024; };
struct Module { std::string path[2]; void* h[2] = {nullptr, nullptr}; std::map<std::string, std::unique_ptr<Function>> f; };   // [with checks]
typedef int (*Variant)(const char* path, int check, char* out, int size);
static Variant variant;              // the same source built with or without checks
static const char MAGIC[] = "PRETENDED-CUDA ";
static R load(Module* m, int c) {
  if (m->h[c]) return OK;
  if (m->path[c].empty()) {
    std::vector<char> p(4096);
    if (!variant || variant(m->path[!c].c_str(), c, p.data(), (int)p.size())) { say("no build for this mode"); return NO_IMAGE; }
    m->path[c] = p.data();
  }
  m->h[c] = dlopen(m->path[c].c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!m->h[c]) { say(std::string("dlopen: ") + dlerror()); return NO_IMAGE; }
  CocKernel* k = (CocKernel*)dlsym(m->h[c], "coc_kernels"); coc_module_data(k);
  for (; k->name; k++) {
    auto& f = m->f[k->name];
    if (!f) {
      f = std::make_unique<Function>(); f->m = m; f->name = k->name; f->nparam = k->nparam;
      std::vector<int> a(k->nparam + 1), b(a), e(a); k->info(a.data(), b.data(), e.data(), 0);
      f->size.assign(b.begin(), b.begin() + k->nparam);
    }
    f->k[c] = k;
  }
  return OK;
}
API R cuModuleLoadData(void** out, const void* image) {
  LOCK; counts["module"]++;
  if (strncmp((const char*)image, MAGIC, sizeof MAGIC - 1)) { say("module image was not made by the pretended NVRTC"); return NO_IMAGE; }
  const char* t = (const char*)image + sizeof MAGIC - 1; int c = *t == '1'; std::string p(t + 2); p = p.substr(0, p.find('\n'));
  Module* m = new Module; *out = m;
  if (p == "none") return OK;
  m->path[c] = p;
  return load(m, c);
}
API R cuModuleLoadDataEx(void** o, const void* i, unsigned, int*, void**) { return cuModuleLoadData(o, i); }
API R cuModuleLoad(void**, const char*) { return NOT_SUPPORTED; }
API R cuModuleUnload(void* m) { LOCK; run_everything(); (void)m; return OK; }
API R cuModuleGetFunction(void** f, void* m, const char* n) { LOCK; auto& t = ((Module*)m)->f; auto it = t.find(n); if (it == t.end()) return NOT_FOUND; *f = it->second.get(); return OK; }
API R cuModuleGetGlobal_v2(Dptr* p, size_t* n, void* m, const char* name) {
  LOCK; Module* q = (Module*)m; if (q->f.empty() || load(q, checking)) return NOT_FOUND;
  void* a = dlsym(q->h[checking], name); if (!a) return NOT_FOUND;      // note: one copy per mode
  size_t sz = 64 * 1024; *p = (Dptr)a; if (n) *n = sz; dev_mem[(uintptr_t)a] = sz; return OK;
}
API R cuFuncGetAttribute(int* v, int a, void* f) { Function* x = (Function*)f; switch (a) { case 0: *v = 1024; break; case 4: *v = 32; break; case 8: *v = x->max_dyn; break; case 5: case 6: *v = cc_major * 10 + cc_minor; break; default: *v = 0; } return OK; }
API R cuFuncSetAttribute(void* f, int a, int v) { if (a == 8) { if (v > 227 * 1024) return INVALID; ((Function*)f)->max_dyn = v; } return OK; }
API R cuFuncSetCacheConfig(void*, int) { return OK; }
API R cuFuncLoad(void*) { return OK; }
API R cuOccupancyMaxActiveBlocksPerMultiprocessor(int* n, void*, int b, size_t s) { *n = b > 1024 || b <= 0 ? 0 : std::max(1, (int)std::min<size_t>(2048 / b, s ? 228 * 1024 / s : 32)); return OK; }
API R cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int* n, void* f, int b, size_t s, unsigned) { return cuOccupancyMaxActiveBlocksPerMultiprocessor(n, f, b, s); }
API R cuOccupancyMaxPotentialBlockSize(int* g, int* b, void*, void*, size_t, int l) { *g = 132; *b = l ? std::min(l, 256) : 256; return OK; }

static std::string where(const std::string& so, void* base, unsigned long long pc, unsigned long long line) {
  if (!pc) return line ? "line " + std::to_string(line) : "";
  char cmd[1200], out[600] = "";
  snprintf(cmd, sizeof cmd, "addr2line -i -e '%s' 0x%llx 2>/dev/null", so.c_str(), pc - 1 - (unsigned long long)(uintptr_t)base);
  std::string best; if (FILE* p = popen(cmd, "r")) { while (fgets(out, sizeof out, p)) if (!strstr(out, "cuda_on_cpu.h") && !strstr(out, "??")) { best = out; break; } pclose(p); }
  return best.substr(0, best.find('\n'));
}
static void launch(Function* f, std::vector<std::string> args, const unsigned* g, const unsigned* b, size_t shm) {
  if (sticky) return;
  int c = checking; R e = load(f->m, c); if (e) { sticky = e; return; }
  std::vector<void*> p; for (auto& a : args) p.push_back(&a[0]);
  p.push_back(nullptr);
  void* w[3] = {0, 0, 0}; ((void (*)(void**))dlsym(f->m->h[c], "coc_where"))(w);
  int n = coc_launch(f->k[c]->call, p.data(), g, b, shm, w[0], (size_t)w[1], c, schedule, 1, 0xCB);
  char kind[64], text[700]; unsigned long long num[3]; bool fatal = false;
  for (int i = 0; i < n && coc_report(i, kind, text, sizeof text, num); i++) {
    say(f->name + ": " + kind + ": " + text + " at " + where(f->m->path[c], w[2], num[0], num[1]));
    fatal |= !strcmp(kind, "out of bounds") || !strcmp(kind, "misaligned") || !strcmp(kind, "trap") || !strcmp(kind, "divergence");
    if (!strcmp(kind, "out of bounds") || !strcmp(kind, "misaligned")) sticky = ILLEGAL;
  }
  if (fatal && !sticky) sticky = LAUNCH_FAILED;
}
API R cuLaunchKernel(void* fn, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shm, void* s, void** params, void** extra) {
  LOCK; Function* f = (Function*)fn;
  if (sticky) return sticky;
  if (extra) return NOT_SUPPORTED;
  if (!known(st(s))) return BAD_HANDLE;
  if (!gx || !gy || !gz || !bx || !by || !bz || (uint64_t)bx * by * bz > 1024 || gy > 65535 || gz > 65535) return INVALID;
  if ((int)shm > f->max_dyn) { say(f->name + ": dynamic shared memory above the limit set for this kernel"); return INVALID; }
  std::vector<std::string> a; for (int i = 0; i < f->nparam; i++) a.emplace_back((const char*)params[i], f->size[i]);
  push(st(s), "launch", [=] { unsigned g[3] = {gx, gy, gz}, b[3] = {bx, by, bz}; launch(f, a, g, b, shm); });
  return OK;
}
struct LaunchConfig { unsigned g[3], b[3], shm; void* s; void* attrs; unsigned n; };
API R cuLaunchKernelEx(const LaunchConfig* c, void* f, void** p, void** e) { return cuLaunchKernel(f, c->g[0], c->g[1], c->g[2], c->b[0], c->b[1], c->b[2], c->shm, c->s, p, e); }
API R cuLaunchCooperativeKernel(void* f, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz, unsigned shm, void* s, void** p) { (void)f; (void)gx; (void)gy; (void)gz; (void)bx; (void)by; (void)bz; (void)shm; (void)s; (void)p; return NOT_SUPPORTED; }

// ---- device and context --------------------------------------------------------------------
API R cuInit(unsigned) { return n_devices ? OK : NO_DEVICE; }
static int driver_version = 13020;
API R cuDriverGetVersion(int* v) { *v = driver_version; return OK; }
API R cuDeviceGetCount(int* n) { *n = n_devices; return OK; }
API R cuDeviceGet(int* d, int i) { if (i < 0 || i >= n_devices) return 101; *d = i; return OK; }
API R cuDeviceGetName(char* s, int n, int) { snprintf(s, n, "Pretended device"); return OK; }
API R cuDeviceGetUuid(char* u, int d) { memset(u, 0, 16); u[0] = 'P'; u[15] = (char)d; return OK; }
API R cuDeviceGetUuid_v2(char* u, int d) { return cuDeviceGetUuid(u, d); }
API R cuDeviceGetLuid(char* l, unsigned* m, int) { memset(l, 0, 8); *m = 0; return OK; }
API R cuDeviceGetPCIBusId(char* s, int n, int d) { snprintf(s, n, "0000:%02x:00.0", d); return OK; }
API R cuDeviceTotalMem_v2(size_t* n, int) { *n = total_mem; return OK; }
API R cuDeviceComputeCapability(int* a, int* b, int) { *a = cc_major; *b = cc_minor; return OK; }
API R cuDeviceGetAttribute(int* v, int a, int) {
  static const std::map<int, int> t = {{1, 1024}, {2, 1024}, {3, 1024}, {4, 64}, {5, 2147483647}, {6, 65535}, {7, 65535}, {8, 49152}, {9, 65536}, {10, 32}, {11, 2147483647},
    {12, 65536}, {13, 1980000}, {14, 512}, {15, 1}, {16, 132}, {17, 0}, {18, 0}, {19, 1}, {20, 0}, {31, 1}, {36, 2619000}, {37, 5120}, {38, 50 << 20}, {39, 2048},
    {40, 3}, {41, 1}, {76, 1}, {78, 1}, {79, 1}, {80, 1}, {81, 233472}, {82, 65536}, {83, 0}, {89, 1}, {95, 1}, {97, 232448}, {105, 1}, {106, 32}, {111, 1024}, {115, 0}, {120, 1}};
  if (a == 75) *v = cc_major; else if (a == 76) *v = cc_minor; else { auto it = t.find(a); *v = it == t.end() ? 0 : it->second; }
  return OK;
}
API R cuDeviceCanAccessPeer(int* v, int, int) { *v = 0; return OK; }
API R cuDeviceGetDefaultMemPool(void** p, int) { *p = (void*)0xB0; return OK; }
API R cuDeviceGetMemPool(void** p, int) { *p = (void*)0xB0; return OK; }
API R cuMemPoolGetAttribute(void*, int, void* v) { *(uint64_t*)v = 0; return OK; }
API R cuMemPoolSetAttribute(void*, int, void*) { return OK; }
API R cuMemPoolTrimTo(void*, size_t) { return OK; }
static thread_local std::vector<void*> ctx_stack;
static bool ctx_active = false;
API R cuDevicePrimaryCtxRetain(void** c, int) { ctx_active = true; *c = (void*)0xC0; return OK; }
API R cuDevicePrimaryCtxRelease_v2(int) { return OK; }
API R cuDevicePrimaryCtxReset_v2(int) { LOCK; run_everything(); sticky = OK; return OK; }
API R cuDevicePrimaryCtxSetFlags_v2(int, unsigned) { return OK; }
API R cuDevicePrimaryCtxGetState(int, unsigned* f, int* a) { *f = 0; *a = ctx_active; return OK; }
API R cuCtxGetCurrent(void** c) { *c = ctx_stack.empty() ? nullptr : ctx_stack.back(); return OK; }
API R cuCtxSetCurrent(void* c) { if (!ctx_stack.empty()) ctx_stack.pop_back(); if (c) ctx_stack.push_back(c); return OK; }
API R cuCtxPushCurrent_v2(void* c) { ctx_stack.push_back(c); return OK; }
API R cuCtxPopCurrent_v2(void** c) { if (ctx_stack.empty()) return BAD_CTX; if (c) *c = ctx_stack.back(); ctx_stack.pop_back(); return OK; }
API R cuCtxGetDevice(int* d) { if (ctx_stack.empty()) return BAD_CTX; *d = 0; return OK; }
API R cuCtxGetDevice_v2(int* d, void*) { *d = 0; return OK; }
API R cuCtxGetFlags(unsigned* f) { *f = 0; return OK; }
API R cuCtxGetId(void*, unsigned long long* i) { *i = 1; return OK; }
API R cuCtxGetApiVersion(void*, unsigned* v) { *v = 3020; return OK; }
API R cuCtxSynchronize(void) { LOCK; counts["sync_device"]++; run_everything(); return sticky; }
API R cuCtxSynchronize_v2(void*) { return cuCtxSynchronize(); }
API R cuCtxGetStreamPriorityRange(int* a, int* b) { if (a) *a = 0; if (b) *b = -5; return OK; }
API R cuCtxGetLimit(size_t* v, int) { *v = 1024; return OK; }
API R cuCtxSetLimit(int, size_t) { return OK; }
API R cuCtxGetCacheConfig(int* v) { *v = 0; return OK; }
API R cuCtxSetCacheConfig(int) { return OK; }
API R cuModuleGetLoadingMode(int* m) { *m = 2; return OK; }
static const std::map<int, std::pair<const char*, const char*>> ERR = {{0, {"CUDA_SUCCESS", "no error"}}, {1, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}}, {2, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
  {100, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}}, {200, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}}, {201, {"CUDA_ERROR_INVALID_CONTEXT", "invalid device context"}}, {400, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
  {500, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}}, {600, {"CUDA_ERROR_NOT_READY", "device not ready"}}, {700, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}}, {719, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}}, {801, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}}};
API R cuGetErrorName(int e, const char** s) { auto it = ERR.find(e); *s = it == ERR.end() ? "CUDA_ERROR_UNKNOWN" : it->second.first; return OK; }
API R cuGetErrorString(int e, const char** s) { auto it = ERR.find(e); *s = it == ERR.end() ? "unknown error" : it->second.second; return OK; }
API R cuProfilerStart() { return OK; }
API R cuProfilerStop() { return OK; }

// ---- entry points by name; what is missing says so when it is called -------------------------
enum { NTHUNK = 2048 };
static std::string thunk_name[NTHUNK]; static int thunks_used; static void* thunk_at[NTHUNK];
template <int N> static R thunk() { LOCK; say("not supported: " + thunk_name[N]); return NOT_SUPPORTED; }
template <int... I> static void thunk_fill(std::integer_sequence<int, I...>) { void* x[] = {(void*)&thunk<I>...}; memcpy(thunk_at, x, sizeof x); }
static void* missing(const std::string& n) {
  if (!thunk_at[0]) thunk_fill(std::make_integer_sequence<int, NTHUNK>());
  for (int i = 0; i < thunks_used; i++) if (thunk_name[i] == n) return thunk_at[i];
  if (thunks_used == NTHUNK) return thunk_at[0];
  thunk_name[thunks_used] = n; return thunk_at[thunks_used++];
}
API R cuGetProcAddress_v2(const char* name, void** p, int ver, uint64_t, int* status) {
  LOCK; static void* self = nullptr;
  if (!self) { Dl_info i; dladdr((void*)&cuInit, &i); self = dlopen(i.dli_fname, RTLD_NOW | RTLD_NOLOAD); }
  std::string n(name); void* f = nullptr;
  if (n == "cuGetProcAddress") f = (void*)cuGetProcAddress_v2;
  if (!f && !n.empty()) { f = dlsym(self, (n + "_v2").c_str()); if (n == "cuCtxSynchronize" || n == "cuCtxGetDevice" || n == "cuEventElapsedTime" || n == "cuDeviceGetUuid" || n == "cuStreamGetCaptureInfo") f = dlsym(self, n.c_str()); }
  if (!f && !n.empty()) f = dlsym(self, n.c_str());
  if (!f) f = missing(n);
  (void)ver; *p = f; if (status) *status = 0; return OK;
}
API R cuGetProcAddress(const char* n, void** p, int v, uint64_t f) { return cuGetProcAddress_v2(n, p, v, f, nullptr); }
// NVIDIA's own runtime (libcudart, linked into CuPy's wheel) asks for private tables and checks that
// the driver is NVIDIA's.  This driver does not pretend to be: the runtime is not used at all, see
// pretended_cupy.cpp.
API R cuGetExportTable(const void**, const unsigned char*) { return NOT_FOUND; }

// ---- control, for pretended_cuda.py ----------------------------------------------------------
API void pretended_set(const char* key, long long v) {
  LOCK; std::string k(key);
  if (k == "devices") n_devices = (int)v; else if (k == "cc") { cc_major = (int)v / 10; cc_minor = (int)v % 10; }
  else if (k == "memory") total_mem = (size_t)v; else if (k == "schedule") schedule = (int)v; else if (k == "check") { run_everything(); checking = v != 0; }
  else if (k == "driver") driver_version = (int)v;
  else if (k == "order") { run_everything(); order = v < 0 ? LAZY : v == 0 ? EAGER : RANDOM; rng = 88172645463325252ull + (uint64_t)v * 7919; }
  else if (k == "fail_alloc_after") fail_after = (int)v;
}
API void pretended_reset() { LOCK; for (Stream* s : streams) { s->q.clear(); s->done = s->queued; } sticky = OK; messages.clear(); counts.clear(); fail_after = -1; }
API const char* pretended_messages() { LOCK; static std::string c; c = messages; return c.c_str(); }
API unsigned long long pretended_count(const char* k) { LOCK; auto it = counts.find(k); return it == counts.end() ? 0 : it->second; }
API unsigned long long pretended_pending() { LOCK; unsigned long long n = 0; for (Stream* s : streams) n += s->q.size(); return n; }

// ---- NVRTC ---------------------------------------------------------------------------------
typedef int (*Compiler)(const char* src, const char* name, int nopt, const char* const* opt, int nexpr, const char* const* expr, char* path, char* log, int size);
static Compiler compiler;
API void pretended_set_compiler(Compiler c, Variant v) { compiler = c; variant = v; }
struct Prog { std::string src, name, image, log; std::vector<std::string> expr; std::map<std::string, std::string> hdr; };
static int nvrtc_major = 13, nvrtc_minor = 2;
API void pretended_set_nvrtc(int a, int b) { nvrtc_major = a; nvrtc_minor = b; }
API const char* nvrtcGetErrorString(int e) { return e == 0 ? "NVRTC_SUCCESS" : e == 6 ? "NVRTC_ERROR_COMPILATION" : "NVRTC_ERROR"; }
API int nvrtcVersion(int* a, int* b) { *a = nvrtc_major; *b = nvrtc_minor; return 0; }
API int nvrtcGetNumSupportedArchs(int* n) { *n = 8; return 0; }
API int nvrtcGetSupportedArchs(int* a) { int v[] = {75, 80, 86, 87, 89, 90, 100, 120}; memcpy(a, v, sizeof v); return 0; }
API int nvrtcCreateProgram(void** p, const char* src, const char* name, int, const char* const*, const char* const*) { Prog* q = new Prog; q->src = src; q->name = name ? name : "kernel.cu"; *p = q; return 0; }
API int nvrtcDestroyProgram(void** p) { delete (Prog*)*p; *p = nullptr; return 0; }
API int nvrtcAddNameExpression(void* p, const char* e) { ((Prog*)p)->expr.push_back(e); return 0; }
API int nvrtcCompileProgram(void* p, int n, const char* const* opt) {
  Prog* q = (Prog*)p; counts["compile"]++;
  if (q->src.find("__global__") == std::string::npos) { q->image = std::string(MAGIC) + "0 none\n"; return 0; }
  std::vector<const char*> e; for (auto& x : q->expr) e.push_back(x.c_str());
  std::vector<char> path(4096), log(65536);
  if (!compiler) { q->log = "no compiler set: call pretended_cuda.install()"; return 6; }
  int r = compiler(q->src.c_str(), q->name.c_str(), n, opt, (int)e.size(), e.data(), path.data(), log.data(), (int)log.size());
  q->log = log.data(); q->image = std::string(MAGIC) + path.data() + "\n"; return r ? 6 : 0;
}
API int nvrtcGetLoweredName(void* p, const char* e, const char** out) { for (auto& x : ((Prog*)p)->expr) if (x == e) { *out = x.c_str(); return 0; } return 10; }
API int nvrtcGetProgramLogSize(void* p, size_t* n) { *n = ((Prog*)p)->log.size() + 1; return 0; }
API int nvrtcGetProgramLog(void* p, char* s) { strcpy(s, ((Prog*)p)->log.c_str()); return 0; }
#define IMG(x)                                                                                        \
  API int nvrtcGet##x##Size(void* p, size_t* n) { *n = ((Prog*)p)->image.size() + 1; return 0; }      \
  API int nvrtcGet##x(void* p, char* s) { strcpy(s, ((Prog*)p)->image.c_str()); return 0; }
IMG(PTX) IMG(CUBIN) IMG(LTOIR) IMG(OptiXIR) IMG(NVVM)
