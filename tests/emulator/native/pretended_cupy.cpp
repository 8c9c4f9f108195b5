// SPDX-License-Identifier: GPL-3.0-or-later
// pretended_cupy.cpp - stands in for the C functions that CuPy's modules take from
// cupy_backends.cuda.api.runtime and .driver (looked up there by name and signature), and passes them
// on to pretended_driver.cpp.  Needs no Python headers.
#include <stdint.h>
#include <string.h>
#define API extern "C" __attribute__((visibility("default")))
struct PyObject;
extern "C" {
PyObject* PyObject_CallFunction(PyObject*, const char*, ...); void PyErr_SetObject(PyObject*, PyObject*); PyObject* Py_BuildValue(const char*, ...);
void Py_IncRef(PyObject*); void Py_DecRef(PyObject*); void* PyEval_SaveThread(); void PyEval_RestoreThread(void*); int PyGILState_Ensure(); void PyGILState_Release(int); void PyErr_WriteUnraisable(PyObject*);
const char* PyUnicode_AsUTF8(PyObject*); char* PyBytes_AsString(PyObject*);
extern PyObject _Py_NoneStruct;
}
typedef int R; typedef intptr_t P; typedef unsigned U;
#define D(name, ...) extern "C" R name(__VA_ARGS__);
D(cuDriverGetVersion, int*) D(cuDeviceGetCount, int*) D(cuDeviceGetAttribute, int*, int, int) D(cuCtxSynchronize) D(cuInit, U)
D(cuMemAlloc_v2, P*, size_t) D(cuMemFree_v2, P) D(cuMemFreeAsync, P, P) D(cuMemHostAlloc, P*, size_t, U) D(cuMemFreeHost, P) D(cuMemHostRegister_v2, P, size_t, U) D(cuMemHostUnregister, P)
D(cuMemGetInfo_v2, size_t*, size_t*) D(cuMemcpy, P, P, size_t) D(cuMemcpyAsync, P, P, size_t, P) D(cuMemsetD8_v2, P, unsigned char, size_t) D(cuMemsetD8Async, P, unsigned char, size_t, P)
D(cuPointerGetAttribute, void*, int, P) D(cuStreamCreateWithPriority, P*, U, int) D(cuStreamDestroy_v2, P) D(cuStreamSynchronize, P) D(cuStreamQuery, P) D(cuStreamWaitEvent, P, P, U) D(cuStreamGetFlags, P, U*)
D(cuEventCreate, P*, U) D(cuEventDestroy_v2, P) D(cuEventRecord, P, P) D(cuEventSynchronize, P) D(cuEventQuery, P) D(cuEventElapsedTime, float*, P, P) D(cuLaunchHostFunc, P, void (*)(void*), void*)
D(cuModuleLoadData, P*, const char*) D(cuModuleUnload, P) D(cuModuleGetFunction, P*, P, const char*) D(cuModuleGetGlobal_v2, P*, size_t*, P, const char*) D(cuFuncGetAttribute, int*, int, P) D(cuFuncSetAttribute, P, int, int)
D(cuLaunchKernel, P, U, U, U, U, U, U, U, P, void*, void*) D(cuOccupancyMaxActiveBlocksPerMultiprocessor, int*, P, int, size_t) D(cuOccupancyMaxPotentialBlockSize, int*, int*, P, void*, size_t, int)
struct Copy2D { size_t sx, sy; U st_; const void* sh; P sd; void* sa; size_t sp; size_t dx, dy; U dt; void* dh; P dd; void* da; size_t dp; size_t w, h; };
D(cuMemcpy2DAsync_v2, const Copy2D*, P) D(cuMemcpy2D_v2, const Copy2D*)

static PyObject *rt_error, *dr_error, *attr_class;      // set by pretended_cuda.py
static int device_now;
API void pretended_classes(PyObject* a, PyObject* b, PyObject* c) { rt_error = a; dr_error = b; attr_class = c; Py_IncRef(a); Py_IncRef(b); Py_IncRef(c); }
static void raise(PyObject* cls, int r) { PyObject* e = PyObject_CallFunction(cls, "i", r); if (e) { PyErr_SetObject(cls, e); Py_DecRef(e); } }
static PyObject* none() { Py_IncRef(&_Py_NoneStruct); return &_Py_NoneStruct; }
template <class F> static int call(F f) { void* t = PyEval_SaveThread(); int r = f(); PyEval_RestoreThread(t); return r; }
static int needed;                   // a driver older than this is refused, as by the real runtime
API void pretended_needs(int v) { needed = v; }
static int broken() { int v, n = 0; cuDriverGetVersion(&v); cuDeviceGetCount(&n); return v < needed ? 35 : n ? 0 : 100; }
static int devices() { int n = 0; cuDeviceGetCount(&n); return n; }
#define RUN(expr, fail) do { int r_ = broken(); if (!r_) r_ = call([&]() -> int { return expr; }); if (r_) { raise(rt_error, r_); return fail; } } while (0)
#define OBJ(name, args, expr) API PyObject* rt_##name args { RUN(expr, nullptr); return none(); }
#define VAL(T, name, args, fail, expr) API T rt_##name args { T v = 0; RUN(expr, fail); return v; }
#define SK int
OBJ(check_status, (int s, SK), s)
API PyObject* rt__ensure_context(void) { if (int r = broken()) { raise(rt_error, r); return nullptr; } return none(); }
API int rt_driverGetVersion(SK) { int v; cuDriverGetVersion(&v); return v; }
API int rt_getDevice(SK) { if (int r = broken()) { raise(rt_error, r); return -1; } return device_now; }
API int rt_getDeviceCount(SK) { if (int r = broken()) { raise(rt_error, r); return -1; } return devices(); }
OBJ(setDevice, (int d, SK), d < 0 || d >= devices() ? 101 : (device_now = d, 0))
VAL(int, deviceGetAttribute, (int a, int d, SK), -1, cuDeviceGetAttribute(&v, a, d))
OBJ(deviceSynchronize, (SK), cuCtxSynchronize())
API int rt_deviceCanAccessPeer(int, int, SK) { return 0; }
OBJ(_deviceEnsurePeerAccess, (int, SK), 0)
VAL(P, malloc, (size_t n, SK), 0, cuMemAlloc_v2(&v, n))
VAL(P, mallocAsync, (size_t n, P, SK), 0, cuMemAlloc_v2(&v, n))
VAL(P, mallocFromPoolAsync, (size_t n, P, P, SK), 0, cuMemAlloc_v2(&v, n))
VAL(P, hostAlloc, (size_t n, U f, SK), 0, cuMemHostAlloc(&v, n, f))
OBJ(hostRegister, (P p, size_t n, U f, SK), cuMemHostRegister_v2(p, n, f))
OBJ(hostUnregister, (P p, SK), cuMemHostUnregister(p))
OBJ(free, (P p, SK), cuMemFree_v2(p))
OBJ(freeAsync, (P p, P s, SK), cuMemFreeAsync(p, s))
OBJ(freeHost, (P p, SK), cuMemFreeHost(p))
API PyObject* rt_memGetInfo(SK) { size_t f, t; RUN(cuMemGetInfo_v2(&f, &t), nullptr); return Py_BuildValue("(nn)", f, t); }
OBJ(memcpy, (P d, P s, size_t n, int, SK), cuMemcpy(d, s, n))
OBJ(memcpyAsync, (P d, P s, size_t n, int, P st, SK), cuMemcpyAsync(d, s, n, st))
OBJ(memcpyPeer, (P d, int, P s, int, size_t n, SK), cuMemcpy(d, s, n))
OBJ(memcpyPeerAsync, (P d, int, P s, int, size_t n, P st, SK), cuMemcpyAsync(d, s, n, st))
static Copy2D c2(P d, size_t dp, P s, size_t sp, size_t w, size_t h) { Copy2D c; memset(&c, 0, sizeof c); c.st_ = c.dt = 2; c.sd = s; c.dd = d; c.sp = sp; c.dp = dp; c.w = w; c.h = h; return c; }
API PyObject* rt_memcpy2D(P d, size_t dp, P s, size_t sp, size_t w, size_t h, int, SK) { Copy2D c = c2(d, dp, s, sp, w, h); RUN(cuMemcpy2D_v2(&c), nullptr); return none(); }
API PyObject* rt_memcpy2DAsync(P d, size_t dp, P s, size_t sp, size_t w, size_t h, int, P st, SK) { Copy2D c = c2(d, dp, s, sp, w, h); RUN(cuMemcpy2DAsync_v2(&c, st), nullptr); return none(); }
OBJ(memset, (P p, int v, size_t n, SK), cuMemsetD8_v2(p, (unsigned char)v, n))
OBJ(memsetAsync, (P p, int v, size_t n, P s, SK), cuMemsetD8Async(p, (unsigned char)v, n, s))
static int mem_type(P p) { U t = 0; return cuPointerGetAttribute(&t, 2, p) ? 0 : (int)t; }
API int rt_pointerGetMemoryType(P p, SK) { return mem_type(p); }
API PyObject* rt_pointerGetAttributes(P p, SK) { int t = mem_type(p); return PyObject_CallFunction(attr_class, "inni", t ? device_now : -2, t == 2 ? p : t ? p : (P)0, t == 1 ? p : (P)0, t); }
VAL(P, streamCreate, (SK), 0, cuStreamCreateWithPriority(&v, 0, 0))
VAL(P, streamCreateWithFlags, (U f, SK), 0, cuStreamCreateWithPriority(&v, f, 0))
VAL(P, streamCreateWithPriority, (U f, int p, SK), 0, cuStreamCreateWithPriority(&v, f, p))
VAL(U, streamGetFlags, (P s, SK), 0, cuStreamGetFlags(s, &v))
API int rt_streamGetPriority(P, SK) { return 0; }
OBJ(streamDestroy, (P s, SK), cuStreamDestroy_v2(s))
OBJ(streamSynchronize, (P s, SK), cuStreamSynchronize(s))
API PyObject* rt_streamQuery(P s, SK) { return Py_BuildValue("i", cuStreamQuery(s)); }       // the status itself
OBJ(streamWaitEvent, (P s, P e, SK, void*), cuStreamWaitEvent(s, e, 0))
API int rt_streamIsCapturing(P, SK) { return 0; }
VAL(P, eventCreate, (SK), 0, cuEventCreate(&v, 0))
VAL(P, eventCreateWithFlags, (U f, SK), 0, cuEventCreate(&v, f))
OBJ(eventDestroy, (P e, SK), cuEventDestroy_v2(e))
API float rt_eventElapsedTime(P a, P b, SK) { float v = 0; RUN(cuEventElapsedTime(&v, a, b), 0); return v; }
API PyObject* rt_eventQuery(P e, SK) { return Py_BuildValue("i", cuEventQuery(e)); }
OBJ(eventRecord, (P e, P s, SK), cuEventRecord(e, s))
OBJ(eventSynchronize, (P e, SK), cuEventSynchronize(e))
OBJ(profilerStart, (SK), 0)
OBJ(profilerStop, (SK), 0)
struct Host { PyObject* f; P arg; };
static void trampoline(void* u) { Host* h = (Host*)u; int g = PyGILState_Ensure(); PyObject* r = PyObject_CallFunction(h->f, "n", h->arg); if (r) Py_DecRef(r); else PyErr_WriteUnraisable(h->f); Py_DecRef(h->f); PyGILState_Release(g); delete h; }
API PyObject* rt_launchHostFunc(P s, PyObject* f, P arg, SK) { Py_IncRef(f); Host* h = new Host{f, arg}; RUN(cuLaunchHostFunc(s, trampoline, h), nullptr); return none(); }
// anything else
API PyObject* rt_missing_object() { raise(rt_error, 801); return nullptr; }
API P rt_missing_zero() { raise(rt_error, 801); return 0; }
API int rt_missing_minus() { raise(rt_error, 801); return -1; }

#undef RUN
#define RUN(expr, fail) do { int r_ = call([&]() -> int { return expr; }); if (r_) { raise(dr_error, r_); return fail; } } while (0)
API P dr_ctxGetCurrent(SK) { return 0xC0; }
API int dr_ctxGetDevice(SK) { return device_now; }
API PyObject* dr_ctxSetCurrent(P, SK) { return none(); }
API PyObject* dr_devicePrimaryCtxRelease(int, SK) { return none(); }
API P dr_streamGetCtx(P, SK) { return 0xC0; }
API P dr_moduleLoadData(PyObject* b, SK) { P m = 0; char* image = PyBytes_AsString(b); RUN(cuModuleLoadData(&m, image), 0); return m; }
API PyObject* dr_moduleUnload(P m, SK) { RUN(cuModuleUnload(m), nullptr); return none(); }
API P dr_moduleGetFunction(P m, PyObject* n, SK) { P f = 0; const char* s = PyUnicode_AsUTF8(n); RUN(cuModuleGetFunction(&f, m, s), 0); return f; }
API P dr_moduleGetGlobal(P m, PyObject* n, SK) { P f = 0; size_t z; const char* s = PyUnicode_AsUTF8(n); RUN(cuModuleGetGlobal_v2(&f, &z, m, s), 0); return f; }
API PyObject* dr_launchKernel(P f, U a, U b, U c, U d, U e, U g, U shm, P s, P params, P extra, SK) { RUN(cuLaunchKernel(f, a, b, c, d, e, g, shm, s, (void*)params, (void*)extra), nullptr); return none(); }
API int dr_funcGetAttribute(int a, P f, SK) { int v = 0; RUN(cuFuncGetAttribute(&v, a, f), -1); return v; }
API PyObject* dr_funcSetAttribute(P f, int a, int v, SK) { RUN(cuFuncSetAttribute(f, a, v), nullptr); return none(); }
API int dr_occupancyMaxActiveBlocksPerMultiprocessor(P f, int b, size_t n, SK) { int v = 0; RUN(cuOccupancyMaxActiveBlocksPerMultiprocessor(&v, f, b, n), -1); return v; }
API PyObject* dr_occupancyMaxPotentialBlockSize(P f, size_t n, int l, SK) { int g, b; RUN(cuOccupancyMaxPotentialBlockSize(&g, &b, f, nullptr, n, l), nullptr); return Py_BuildValue("(ii)", g, b); }
API PyObject* dr_missing_object() { raise(dr_error, 801); return nullptr; }
API P dr_missing_zero() { raise(dr_error, 801); return 0; }
API int dr_missing_minus() { raise(dr_error, 801); return -1; }
