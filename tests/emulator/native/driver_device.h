// SPDX-License-Identifier: GPL-3.0-or-later
// Devices, versions and names of errors.  Part of pretended_driver.cpp.
#pragma once

// Devices that CUDA_VISIBLE_DEVICES leaves: its numbers up to the first that does not exist.
static int visible_devices() {
  const char* list = getenv("CUDA_VISIBLE_DEVICES");
  if (!list) return settings.devices;
  int n = 0;
  for (const char* p = list; *p; n++) {
    char* end;
    long device = strtol(p, &end, 10);
    if (end == p || device < 0 || device >= settings.devices) break;
    p = *end == ',' ? end + 1 : end;
    if (p == end && *end) break;
  }
  return n;
}

API Result cuInit(unsigned) {
  LOCK;
  if (forked) return NOT_INITIALIZED;
  used = true;
  return visible_devices() ? SUCCESS : NO_DEVICE;
}
API Result cuDriverGetVersion(int* version) {
  *version = settings.driver_version;
  return SUCCESS;
}
API Result cuDeviceGetCount(int* n) {
  LOCK;
  if (forked) return NOT_INITIALIZED;
  used = true;
  *n = visible_devices();
  return SUCCESS;
}
API Result cuDeviceGet(int* device, int number) {
  if (number < 0 || number >= visible_devices()) return INVALID_DEVICE;
  *device = number;
  return SUCCESS;
}
API Result cuDeviceGetName(char* name, int size, int) {
  snprintf(name, size, "Pretended device");
  return SUCCESS;
}
API Result cuDeviceTotalMem_v2(size_t* size, int) {
  *size = settings.memory;
  return SUCCESS;
}
API Result cuDeviceGetAttribute(int* value, int attribute, int device) {
  static const std::map<int, int> values = {
      {1, 1024},                     // most threads a block
      {2, 1024},                     // most threads a block along x
      {3, 1024},                     // y
      {4, 64},                       // z
      {5, 2147483647},               // most blocks along x
      {6, 65535},                    // y
      {7, 65535},                    // z
      {8, 48 * 1024},                // shared memory a block
      {9, 65536},                    // constant memory
      {10, 32},                      // threads a warp
      {12, 65536},                   // registers a block
      {13, 1980000},                 // clock, kHz
      {15, 1},                       // copies while a kernel runs
      {16, 132},                     // multiprocessors
      {19, 1},                       // host memory can be mapped
      {31, 1},                       // several kernels at once
      {36, 2619000},                 // clock of the memory, kHz
      {37, 5120},                    // width of the memory bus, bits
      {38, 50 << 20},                // cache
      {39, 2048},                    // threads a multiprocessor
      {40, 3},                       // engines for copies
      {41, 1},                       // one address space
      {78, 1},                       // priorities of streams
      {81, 228 * 1024},              // shared memory a multiprocessor
      {82, 65536},                   // registers a multiprocessor
      {97, MOST_SHARED}, {106, 32},  // blocks a multiprocessor
  };
  if (attribute == 33) {  // PCI bus
    *value = device;
  } else if (attribute == 75 || attribute == 76) {
    *value = attribute == 75 ? settings.cc / 10 : settings.cc % 10;
  } else {
    auto it = values.find(attribute);
    *value = it == values.end() ? 0 : it->second;
  }
  return SUCCESS;
}
// NVIDIA's own libraries ask for private tables of the driver where one is loaded; NVRTC then does without.
API Result cuGetExportTable(const void**, const unsigned char*) { return NOT_FOUND; }
API Result cuCtxSynchronize(void) {
  LOCK;
  if (Result r = gate()) return r;
  counts["sync_device"]++;
  run_everything();
  return sticky;
}

struct ErrorText {
  const char *name, *text;
};
static const std::map<int, ErrorText> error_texts = {
    {SUCCESS, {"CUDA_SUCCESS", "no error"}},
    {INVALID_VALUE, {"CUDA_ERROR_INVALID_VALUE", "invalid argument"}},
    {OUT_OF_MEMORY, {"CUDA_ERROR_OUT_OF_MEMORY", "out of memory"}},
    {NOT_INITIALIZED, {"CUDA_ERROR_NOT_INITIALIZED", "initialization error"}},
    {NO_DEVICE, {"CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"}},
    {INVALID_DEVICE, {"CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"}},
    {INVALID_IMAGE, {"CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"}},
    {INVALID_HANDLE, {"CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"}},
    {NOT_FOUND, {"CUDA_ERROR_NOT_FOUND", "named symbol not found"}},
    {NOT_READY, {"CUDA_ERROR_NOT_READY", "device not ready"}},
    {ILLEGAL_ADDRESS, {"CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"}},
    {LAUNCH_FAILED, {"CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"}},
    {NOT_SUPPORTED, {"CUDA_ERROR_NOT_SUPPORTED", "operation not supported"}},
};
API Result cuGetErrorName(int error, const char** name) {
  auto it = error_texts.find(error);
  *name = it == error_texts.end() ? "CUDA_ERROR_UNKNOWN" : it->second.name;
  return SUCCESS;
}
API Result cuGetErrorString(int error, const char** text) {
  auto it = error_texts.find(error);
  *text = it == error_texts.end() ? "unknown error" : it->second.text;
  return SUCCESS;
}
