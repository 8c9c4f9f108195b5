// SPDX-License-Identifier: GPL-3.0-or-later
// State of the pretended driver: settings, faults on demand, messages, counts.  Part of pretended_driver.cpp.
#pragma once

enum Result : int {
  SUCCESS = 0,
  INVALID_VALUE = 1,
  OUT_OF_MEMORY = 2,
  NOT_INITIALIZED = 3,
  NO_DEVICE = 100,
  INVALID_DEVICE = 101,
  INVALID_IMAGE = 200,
  INVALID_HANDLE = 400,
  NOT_FOUND = 500,
  NOT_READY = 600,
  ILLEGAL_ADDRESS = 700,
  LAUNCH_FAILED = 719,
  ALREADY_REGISTERED = 712,
  NOT_REGISTERED = 713,
  NOT_SUPPORTED = 801,
};
typedef uint64_t DevicePtr;

// One lock for all.  A forked child makes it anew: another thread may have held it.
static std::recursive_mutex& the_lock() {
  alignas(std::recursive_mutex) static char place[sizeof(std::recursive_mutex)];
  static std::recursive_mutex* lock = new (place) std::recursive_mutex;
  return *lock;
}
#define LOCK std::lock_guard<std::recursive_mutex> locked_(the_lock())

enum Order { EAGER, LAZY, RANDOM };

struct Settings {
  Order order = LAZY;
  bool check = false;  // run kernels that were built with checks
  int schedule = 0;    // order of the threads within kernels
  int devices = 1;
  int cc = 90;  // compute capability times ten
  int driver_version = 13020;
  size_t memory = (size_t)8 << 30;
  long long fail_alloc_after = -1;  // that many more allocations succeed, then none
  long long lose_after = -1;        // that many kernels run in this process, at the next the device is lost
  long long hang_after = -1;        // the same, but that one never ends
  std::string lose_once;            // a file: lost or hung only in the process that makes it
  std::string log;                  // a file to which messages are added
};
static Settings settings;

static Result sticky = SUCCESS;    // as on a device, a faulty kernel spoils all that comes after it
static bool used = false;          // this process has asked for the device
static bool forked = false;        // its parent had: CUDA does not survive a fork then
static long long kernels_run = 0;  // in this process
static std::string messages;
static std::map<std::string, uint64_t> counts;

static uint64_t random_state = 88172645463325252ull;
static uint32_t random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 32);
}

static void say(const std::string& text) {
  static bool verbose = getenv("PRETENDED_CUDA_VERBOSE") != nullptr;
  messages += text + "\n";
  if (verbose) fprintf(stderr, "pretended cuda: %s\n", text.c_str());
  if (settings.log.empty()) return;
  std::string line = std::to_string(getpid()) + " " + text + "\n";
  int file = open(settings.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (file < 0) return;
  if (write(file, line.data(), line.size()) < 0) perror("pretended cuda: log");
  close(file);
}

// What a call that needs the device answers if it cannot be served at all.
static Result gate() {
  if (forked) return NOT_INITIALIZED;
  used = true;
  return sticky;
}

// True if the fault that waits for its turn after *limit* kernels strikes now.
static bool strikes(long long& limit) {
  if (limit < 0 || kernels_run < limit) return false;
  limit = -1;
  if (settings.lose_once.empty()) return true;
  int file = open(settings.lose_once.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (file < 0) return false;
  close(file);
  return true;
}

// Called before each kernel: false if the device is lost.
static bool device_lives() {
  if (strikes(settings.hang_after)) {
    say("kernel never ends");
    for (;;) pause();
  }
  if (strikes(settings.lose_after)) {
    say("device lost");
    sticky = ILLEGAL_ADDRESS;
  }
  kernels_run++;
  return !sticky;
}

// As with NVIDIA's driver: a child of a process that has used the device cannot use it.  Any other child
// starts with a device of its own.
static void after_fork() {
  new (&the_lock()) std::recursive_mutex;
  forked = forked || used;
  kernels_run = 0;
  messages.clear();
  counts.clear();
}
__attribute__((constructor)) static void watch_forks() {
  the_lock();
  pthread_atfork(nullptr, nullptr, after_fork);
}
