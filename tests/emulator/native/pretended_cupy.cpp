// SPDX-License-Identifier: GPL-3.0-or-later
// Stands in for the C functions that CuPy's modules take from cupy_backends.cuda.api.runtime and .driver.
//
// Cython looks such functions up by name and signature in a table of the module, when the module that uses
// them is imported; cupy_tables.py fills these tables with the functions below: rt_NAME for runtime.NAME,
// dr_NAME for driver.NAME.  They pass on to pretended_driver.cpp without the interpreter's lock, and raise
// CuPy's own exceptions.  A function that is not here raises cudaErrorNotSupported.  No Python headers are
// needed.
//
// Each function of a table takes one more int at the end (Cython's "skip dispatch"), without meaning here.
#include <stdint.h>
#include <string.h>

#define API extern "C" __attribute__((visibility("default")))
typedef intptr_t Handle;  // stream, event, module, function, address
typedef unsigned Flags;

struct PyObject;
extern "C" {
PyObject* PyObject_CallFunction(PyObject*, const char*, ...);
void PyErr_SetObject(PyObject*, PyObject*);
void PyErr_WriteUnraisable(PyObject*);
PyObject* Py_BuildValue(const char*, ...);
void Py_IncRef(PyObject*);
void Py_DecRef(PyObject*);
void* PyEval_SaveThread();
void PyEval_RestoreThread(void*);
int PyGILState_Ensure();
void PyGILState_Release(int);
const char* PyUnicode_AsUTF8(PyObject*);
char* PyBytes_AsString(PyObject*);
extern PyObject _Py_NoneStruct;

// pretended_driver.cpp
int cuDriverGetVersion(int*);
int cuDeviceGetCount(int*);
int cuDeviceGetAttribute(int*, int, int);
int cuCtxSynchronize();
int cuMemAlloc_v2(Handle*, size_t);
int cuMemFree_v2(Handle);
int cuMemFreeAsync(Handle, Handle);
int cuMemHostAlloc(Handle*, size_t, Flags);
int cuMemFreeHost(Handle);
int cuMemHostRegister_v2(Handle, size_t, Flags);
int cuMemHostUnregister(Handle);
int cuMemGetInfo_v2(size_t*, size_t*);
int cuMemcpy(Handle, Handle, size_t);
int cuMemcpyAsync(Handle, Handle, size_t, Handle);
int cuMemsetD8_v2(Handle, unsigned char, size_t);
int cuMemsetD8Async(Handle, unsigned char, size_t, Handle);
int cuPointerGetAttribute(void*, int, Handle);
int cuStreamCreateWithPriority(Handle*, Flags, int);
int cuStreamDestroy_v2(Handle);
int cuStreamSynchronize(Handle);
int cuStreamQuery(Handle);
int cuStreamWaitEvent(Handle, Handle, Flags);
int cuStreamGetFlags(Handle, Flags*);
int cuEventCreate(Handle*, Flags);
int cuEventDestroy_v2(Handle);
int cuEventRecord(Handle, Handle);
int cuEventSynchronize(Handle);
int cuEventQuery(Handle);
int cuEventElapsedTime(float*, Handle, Handle);
int cuLaunchHostFunc(Handle, void (*)(void*), void*);
int cuModuleLoadData(Handle*, const char*);
int cuModuleUnload(Handle);
int cuModuleGetFunction(Handle*, Handle, const char*);
int cuModuleGetGlobal_v2(Handle*, size_t*, Handle, const char*);
int cuFuncGetAttribute(int*, int, Handle);
int cuFuncSetAttribute(Handle, int, int);
int cuLaunchKernel(Handle, Flags, Flags, Flags, Flags, Flags, Flags, Flags, Handle, void*, void*);
int cuOccupancyMaxActiveBlocksPerMultiprocessor(int*, Handle, int, size_t);
int cuOccupancyMaxPotentialBlockSize(int*, int*, Handle, void*, size_t, int);
int pretended_copy_2d(Handle, size_t, Handle, size_t, size_t, size_t, Handle, int);
int pretended_current_device();
int pretended_use_device(int);
}

enum { INSUFFICIENT_DRIVER = 35, NO_DEVICE = 100, NOT_SUPPORTED = 801 };

// ---- errors ----------------------------------------------------------------------------------------------
static PyObject *runtime_error, *driver_error, *pointer_attributes;  // CuPy's classes
static int oldest_driver;                                            // that this CuPy's runtime works with

API void pretended_runtime(PyObject* error, PyObject* attributes, int oldest) {
  Py_IncRef(error);
  Py_IncRef(attributes);
  runtime_error = error;
  pointer_attributes = attributes;
  oldest_driver = oldest;
}
API void pretended_driver(PyObject* error) {
  Py_IncRef(error);
  driver_error = error;
}

static void raise(PyObject* error_class, int status) {
  PyObject* error = PyObject_CallFunction(error_class, "i", status);
  if (!error) return;
  PyErr_SetObject(error_class, error);
  Py_DecRef(error);
}
static PyObject* none() {
  Py_IncRef(&_Py_NoneStruct);
  return &_Py_NoneStruct;
}
template <class F>
static int without_gil(F function) {
  void* state = PyEval_SaveThread();
  int status = function();
  PyEval_RestoreThread(state);
  return status;
}

// What every call of NVIDIA's runtime answers where there is no usable device.
static int unusable() {
  int version, n = 0;
  cuDriverGetVersion(&version);
  if (version < oldest_driver) return INSUFFICIENT_DRIVER;
  if (int status = cuDeviceGetCount(&n)) return status;
  return n ? 0 : NO_DEVICE;
}
// True, and an exception, if *function* does not give 0.
template <class F>
static bool failed(F function) {
  int status = without_gil([&] {
    int s = unusable();
    return s ? s : function();
  });
  if (status) raise(runtime_error, status);
  return status != 0;
}
template <class F>
static bool driver_failed(F function) {
  int status = without_gil(function);
  if (status) raise(driver_error, status);
  return status != 0;
}

// A function that gives None, and one that gives a value *v* which the expression has set.
#define NONE(name, parameters, expression)                                 \
  API PyObject* rt_##name parameters {                                     \
    return failed([&]() -> int { return expression; }) ? nullptr : none(); \
  }
#define VALUE(type, name, parameters, on_error, expression)                  \
  API type rt_##name parameters {                                            \
    type v = 0;                                                              \
    return failed([&]() -> int { return expression; }) ? (type)on_error : v; \
  }

// ---- runtime: devices ------------------------------------------------------------------------------------
NONE(check_status, (int status, int), status)
NONE(_ensure_context, (void), 0)
VALUE(int, getDevice, (int), -1, (v = pretended_current_device(), 0))
VALUE(int, getDeviceCount, (int), -1, cuDeviceGetCount(&v))
NONE(setDevice, (int device, int), pretended_use_device(device))
VALUE(int, deviceGetAttribute, (int attribute, int device, int), -1,
      cuDeviceGetAttribute(&v, attribute, device))
NONE(deviceSynchronize, (int), cuCtxSynchronize())
NONE(_deviceEnsurePeerAccess, (int, int), 0)
NONE(profilerStart, (int), 0)
NONE(profilerStop, (int), 0)
API int rt_driverGetVersion(int) {
  int version;
  cuDriverGetVersion(&version);
  return version;
}
API int rt_deviceCanAccessPeer(int, int, int) { return 0; }

// ---- runtime: memory -------------------------------------------------------------------------------------
VALUE(Handle, malloc, (size_t size, int), 0, cuMemAlloc_v2(&v, size))
VALUE(Handle, mallocAsync, (size_t size, Handle, int), 0, cuMemAlloc_v2(&v, size))
NONE(free, (Handle p, int), cuMemFree_v2(p))
NONE(freeAsync, (Handle p, Handle stream, int), cuMemFreeAsync(p, stream))
VALUE(Handle, hostAlloc, (size_t size, Flags flags, int), 0, cuMemHostAlloc(&v, size, flags))
NONE(freeHost, (Handle p, int), cuMemFreeHost(p))
NONE(hostRegister, (Handle p, size_t size, Flags flags, int), cuMemHostRegister_v2(p, size, flags))
NONE(hostUnregister, (Handle p, int), cuMemHostUnregister(p))
API PyObject* rt_memGetInfo(int) {
  size_t free, total;
  if (failed([&] { return cuMemGetInfo_v2(&free, &total); })) return nullptr;
  return Py_BuildValue("(nn)", free, total);
}
NONE(memcpy, (Handle to, Handle from, size_t size, int, int), cuMemcpy(to, from, size))
NONE(memcpyAsync, (Handle to, Handle from, size_t size, int, Handle stream, int),
     cuMemcpyAsync(to, from, size, stream))
NONE(memcpy2D,
     (Handle to, size_t to_pitch, Handle from, size_t from_pitch, size_t width, size_t height, int, int),
     pretended_copy_2d(to, to_pitch, from, from_pitch, width, height, 0, 0))
NONE(memcpy2DAsync,
     (Handle to, size_t to_pitch, Handle from, size_t from_pitch, size_t width, size_t height, int,
      Handle stream, int),
     pretended_copy_2d(to, to_pitch, from, from_pitch, width, height, stream, 1))
NONE(memset, (Handle p, int value, size_t size, int), cuMemsetD8_v2(p, (unsigned char)value, size))
NONE(memsetAsync, (Handle p, int value, size_t size, Handle stream, int),
     cuMemsetD8Async(p, (unsigned char)value, size, stream))

static int attribute_of(Handle p, int attribute, int otherwise) {
  int value = 0;
  int status = without_gil([&] { return cuPointerGetAttribute(&value, attribute, p); });
  return status ? otherwise : value;
}
API int rt_pointerGetMemoryType(Handle p, int) { return attribute_of(p, 2, 0); }
API PyObject* rt_pointerGetAttributes(Handle p, int) {
  int type = attribute_of(p, 2, 0), device = attribute_of(p, 9, -2);
  return PyObject_CallFunction(pointer_attributes, "inni", device, type ? p : (Handle)0,
                               type == 1 ? p : (Handle)0, type);
}

// ---- runtime: streams and events -------------------------------------------------------------------------
VALUE(Handle, streamCreate, (int), 0, cuStreamCreateWithPriority(&v, 0, 0))
VALUE(Handle, streamCreateWithFlags, (Flags flags, int), 0, cuStreamCreateWithPriority(&v, flags, 0))
VALUE(Handle, streamCreateWithPriority, (Flags flags, int priority, int), 0,
      cuStreamCreateWithPriority(&v, flags, priority))
VALUE(Flags, streamGetFlags, (Handle stream, int), 0, cuStreamGetFlags(stream, &v))
NONE(streamDestroy, (Handle stream, int), cuStreamDestroy_v2(stream))
NONE(streamSynchronize, (Handle stream, int), cuStreamSynchronize(stream))
NONE(streamWaitEvent, (Handle stream, Handle event, int, void*), cuStreamWaitEvent(stream, event, 0))
API int rt_streamGetPriority(Handle, int) { return 0; }
API int rt_streamIsCapturing(Handle, int) { return 0; }
API PyObject* rt_streamQuery(Handle stream, int) {  // gives the status itself
  return Py_BuildValue("i", without_gil([&] { return cuStreamQuery(stream); }));
}
VALUE(Handle, eventCreate, (int), 0, cuEventCreate(&v, 0))
VALUE(Handle, eventCreateWithFlags, (Flags flags, int), 0, cuEventCreate(&v, flags))
VALUE(float, eventElapsedTime, (Handle first, Handle second, int), 0, cuEventElapsedTime(&v, first, second))
NONE(eventDestroy, (Handle event, int), cuEventDestroy_v2(event))
NONE(eventRecord, (Handle event, Handle stream, int), cuEventRecord(event, stream))
NONE(eventSynchronize, (Handle event, int), cuEventSynchronize(event))
API PyObject* rt_eventQuery(Handle event, int) {  // gives the status itself
  return Py_BuildValue("i", without_gil([&] { return cuEventQuery(event); }));
}

struct HostCall {
  PyObject* function;
  Handle argument;
};
static void run_host_call(void* p) {
  HostCall* call = (HostCall*)p;
  int state = PyGILState_Ensure();
  PyObject* result = PyObject_CallFunction(call->function, "n", call->argument);
  if (result)
    Py_DecRef(result);
  else
    PyErr_WriteUnraisable(call->function);
  Py_DecRef(call->function);
  PyGILState_Release(state);
  delete call;
}
API PyObject* rt_launchHostFunc(Handle stream, PyObject* function, Handle argument, int) {
  Py_IncRef(function);
  HostCall* call = new HostCall{function, argument};
  return failed([&] { return cuLaunchHostFunc(stream, run_host_call, call); }) ? nullptr : none();
}

// ---- driver ----------------------------------------------------------------------------------------------
API Handle dr_ctxGetCurrent(int) { return 1; }
API int dr_ctxGetDevice(int) { return pretended_current_device(); }
API PyObject* dr_ctxSetCurrent(Handle, int) { return none(); }
API PyObject* dr_devicePrimaryCtxRelease(int, int) { return none(); }
API Handle dr_streamGetCtx(Handle, int) { return 1; }
API Handle dr_moduleLoadData(PyObject* image, int) {
  Handle module = 0;
  const char* bytes = PyBytes_AsString(image);
  return driver_failed([&] { return cuModuleLoadData(&module, bytes); }) ? 0 : module;
}
API PyObject* dr_moduleUnload(Handle module, int) {
  return driver_failed([&] { return cuModuleUnload(module); }) ? nullptr : none();
}
API Handle dr_moduleGetFunction(Handle module, PyObject* name, int) {
  Handle function = 0;
  const char* text = PyUnicode_AsUTF8(name);
  return driver_failed([&] { return cuModuleGetFunction(&function, module, text); }) ? 0 : function;
}
API Handle dr_moduleGetGlobal(Handle module, PyObject* name, int) {
  Handle address = 0;
  size_t size;
  const char* text = PyUnicode_AsUTF8(name);
  return driver_failed([&] { return cuModuleGetGlobal_v2(&address, &size, module, text); }) ? 0 : address;
}
API PyObject* dr_launchKernel(Handle function, Flags grid_x, Flags grid_y, Flags grid_z, Flags block_x,
                              Flags block_y, Flags block_z, Flags shared, Handle stream, Handle parameters,
                              Handle extra, int) {
  auto launch = [&] {
    return cuLaunchKernel(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream,
                          (void*)parameters, (void*)extra);
  };
  return driver_failed(launch) ? nullptr : none();
}
API int dr_funcGetAttribute(int attribute, Handle function, int) {
  int value = 0;
  return driver_failed([&] { return cuFuncGetAttribute(&value, attribute, function); }) ? -1 : value;
}
API PyObject* dr_funcSetAttribute(Handle function, int attribute, int value, int) {
  return driver_failed([&] { return cuFuncSetAttribute(function, attribute, value); }) ? nullptr : none();
}
API int dr_occupancyMaxActiveBlocksPerMultiprocessor(Handle function, int threads, size_t shared, int) {
  int blocks = 0;
  cuOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, function, threads, shared);
  return blocks;
}
API PyObject* dr_occupancyMaxPotentialBlockSize(Handle function, size_t shared, int limit, int) {
  int grid, block;
  cuOccupancyMaxPotentialBlockSize(&grid, &block, function, nullptr, shared, limit);
  return Py_BuildValue("(ii)", grid, block);
}

// ---- all others, by what they give at an error -----------------------------------------------------------
API PyObject* rt_missing_object() {
  raise(runtime_error, NOT_SUPPORTED);
  return nullptr;
}
API Handle rt_missing_zero() {
  raise(runtime_error, NOT_SUPPORTED);
  return 0;
}
API int rt_missing_minus() {
  raise(runtime_error, NOT_SUPPORTED);
  return -1;
}
API PyObject* dr_missing_object() {
  raise(driver_error, NOT_SUPPORTED);
  return nullptr;
}
API Handle dr_missing_zero() {
  raise(driver_error, NOT_SUPPORTED);
  return 0;
}
API int dr_missing_minus() {
  raise(driver_error, NOT_SUPPORTED);
  return -1;
}
