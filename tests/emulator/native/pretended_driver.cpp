// SPDX-License-Identifier: GPL-3.0-or-later
// A libcuda.so.1 and a libnvrtc without a GPU.
//
// Device memory is host memory between guard pages.  Kernels run in cuda_on_cpu_rt.cpp.  A stream is a queue
// of operations.  In order "lazy" nothing runs until the host waits for it (stream, event, device, a blocking
// copy), and then only as much as that needs: code that forgot to wait sees old data.  In order "eager" each
// operation runs at once; with a seed, any queue may move on at any call.  What a real device guarantees is
// kept in all orders: operations of a stream in turn, the rules of the default stream, pageable memory read
// before the call returns, cudaFree waits for everything.
//
// A program of the pretended NVRTC is compiled by a callback into Python (emulator.source.build); its
// "binary" is a line of text with the path of a shared object.
//
// Only what CuPy's raw kernels, memory and streams need is here, and the few calls with which a program asks
// whether there is a device.  All parts are one translation unit, in this order:
#include <dlfcn.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <algorithm>
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

#include "driver_state.h"    // settings, faults on demand, messages and counts
#include "driver_streams.h"  // streams and events
#include "driver_memory.h"   // allocations, copies, memset
#include "driver_kernels.h"  // modules, launches
#include "driver_device.h"   // devices, versions, names of errors
#include "driver_control.h"  // what pretended_cuda.py calls
#include "driver_nvrtc.h"    // compiling
