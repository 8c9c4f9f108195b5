// SPDX-License-Identifier: GPL-3.0-or-later
// Runs kernels that were compiled with cuda_on_cpu.h, and checks what they do.
//
// The threads of a block are fibers in one OS thread: a thread runs until it ends or waits at a barrier or in
// a warp function, then the next one runs.  Blocks run one after another.  So every order of threads can be
// had at will, and an atomic operation is plain code.
//
// __shared__ variables are thread-local variables of the kernel's library, whose address range the library
// gives (registration.h).  Dynamic shared memory is one fixed piece of memory.
//
// In mode "check" g++ -fsanitize=thread puts a call before every access to memory.  The functions that it
// calls are here, libtsan is never linked: for each byte they keep who wrote and who read it last, and how
// many barriers these threads had passed, and so find races whatever the order was, and stray, misaligned and
// premature accesses.
//
// All parts are one translation unit, in this order:
#include <link.h>
#include <pthread.h>
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
#include <new>
#include <string>
#include <utility>
#include <vector>

#define API extern "C" __attribute__((visibility("default")))

// One lock for all.  A forked child makes it anew: another thread of its parent may have held it.
alignas(std::recursive_mutex) static char lock_place[sizeof(std::recursive_mutex)];
static std::recursive_mutex* the_lock = new (lock_place) std::recursive_mutex;
static void after_fork() { the_lock = new (lock_place) std::recursive_mutex; }
__attribute__((constructor)) static void watch_forks() { pthread_atfork(nullptr, nullptr, after_fork); }
#define LOCK std::lock_guard<std::recursive_mutex> locked_(*the_lock)

#include "runtime_fibers.h"
#include "runtime_checker.h"
#include "runtime_warp.h"
#include "runtime_launch.h"
