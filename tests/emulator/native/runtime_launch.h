// SPDX-License-Identifier: GPL-3.0-or-later
// Runs a grid: block after block, and within a block each thread that is not waiting, in the order asked for,
// until all have ended.  Part of cuda_on_cpu_rt.cpp.
#pragma once

enum { MOST_THREADS = 1024, MOST_SHARED = 227 * 1024, DYNAMIC_ROOM = 256 * 1024 };
enum { FORWARD = 0, BACKWARD = 1 };  // schedules; all others are seeds

struct Launch {
  void (*kernel)(void**);
  void** parameters;
  uint3 grid, block;
  char* static_shared;
  size_t dynamic_size, static_size;
  unsigned schedule;
  int strict, poison;
};
static Launch launch;
static char* dynamic_shared;
API void* coc_dyn_shared(void) { return dynamic_shared; }

static uint64_t random_state;
static uint32_t random_number() {
  random_state ^= random_state << 13;
  random_state ^= random_state >> 7;
  random_state ^= random_state << 17;
  return (uint32_t)(random_state >> 32);
}
template <class T>
static void shuffle(std::vector<T>& values) {
  for (size_t i = values.size(); i > 1; i--) std::swap(values[i - 1], values[random_number() % i]);
}

static void fiber_main() {
  launch.kernel(launch.parameters);
  coc_cur->state = ENDED;
  back_to_host();
  abort();
}

// An access outside memory, or an arithmetic fault, within a kernel.
static void on_fault(int signal_number, siginfo_t* info, void* context) {
  if (!coc_cur) {
    signal(signal_number, SIG_DFL);
    raise(signal_number);
    return;
  }
#if defined(__x86_64__)
  uintptr_t pc = (uintptr_t)((ucontext_t*)context)->uc_mcontext.gregs[REG_RIP] + 1;
#elif defined(__aarch64__)
  uintptr_t pc = (uintptr_t)((ucontext_t*)context)->uc_mcontext.pc + 4;
#endif
  if (signal_number == SIGFPE)
    report("undefined", pc, 0, "arithmetic fault");
  else
    report("out of bounds", pc, 0, "access outside a buffer hit a guard page (address %p)", info->si_addr);
  stop_launch();
}
// Faults are ours for the time of a launch.
struct FaultHandler {
  enum { N_SIGNAL = 3 };
  const int numbers[N_SIGNAL] = {SIGSEGV, SIGBUS, SIGFPE};
  struct sigaction before[N_SIGNAL];
  stack_t stack_before;
  FaultHandler() {
    static char room[64 * 1024];
    stack_t stack = {};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    sigaltstack(&stack, &stack_before);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < N_SIGNAL; i++) sigaction(numbers[i], &action, &before[i]);
  }
  ~FaultHandler() {
    for (int i = 0; i < N_SIGNAL; i++) sigaction(numbers[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

static unsigned count_threads(State state) {
  unsigned n = 0;
  for (auto& t : threads) n += t.state == state;
  return n;
}
static Thread* find_thread(State state) {
  for (auto& t : threads)
    if (t.state == state) return &t;
  return nullptr;
}

// A report that names a thread.
#define REPORT_FOR(thread, ...) \
  do {                          \
    coc_cur = thread;           \
    report(__VA_ARGS__);        \
    coc_cur = nullptr;          \
  } while (0)

static void report_deadlock() {
  unsigned in_warp = count_threads(AT_WARP_CALL), ended = count_threads(ENDED);
  unsigned at_barrier = count_threads(AT_BLOCK_BARRIER);
  if (Thread* t = find_thread(AT_WARP_CALL)) {
    REPORT_FOR(
        t, "divergence", 0, t->line,
        "%u threads wait in a warp function (mask %08x), %u at __syncthreads, %u have ended: the lanes "
        "in the mask never all arrive",
        in_warp, t->call.mask, at_barrier, ended);
  } else if ((t = find_thread(AT_BLOCK_BARRIER))) {
    REPORT_FOR(t, "divergence", 0, t->line, "%u threads wait at __syncthreads, %u have ended", at_barrier,
               ended);
  }
}

// Lets all threads pass the barrier at which all that live wait; false if the block must end here.
static bool pass_barrier(unsigned alive) {
  Thread* first = find_thread(AT_BLOCK_BARRIER);
  int line = first->line, kind = first->barrier_kind, sum = 0;
  for (auto& t : threads) {
    if (t.state != AT_BLOCK_BARRIER) continue;
    sum += t.predicate;
    if (t.line == line && t.barrier_kind == kind) continue;
    REPORT_FOR(first, "divergence", 0, line, "threads of one block wait at different __syncthreads");
    return false;
  }
  if (alive < block_threads && launch.strict) {
    REPORT_FOR(first, "divergence", 0, line, "__syncthreads reached by %u threads after %u have ended", alive,
               block_threads - alive);
    if (launch.strict > 1) return false;
  }
  int result = kind == 1 ? sum : kind == 2 ? sum == (int)alive : sum > 0;  // count, and, or
  for (auto& t : threads) {
    if (t.state != AT_BLOCK_BARRIER) continue;
    t.state = READY;
    t.predicate = result;
    t.block_epoch++;
  }
  return true;
}

static void start_block(uint3 bid) {
  block_stamp++;
  if (launch.poison >= 0) {
    if (launch.dynamic_size) memset(dynamic_shared, launch.poison, launch.dynamic_size);
    if (launch.static_size) memset(launch.static_shared, launch.poison, launch.static_size);
  }
  const uint3& size = launch.block;
  for (unsigned i = 0; i < block_threads; i++) {
    Thread& t = threads[i];
    t = Thread();
    t.tid = uint3{i % size.x, i / size.x % size.y, i / size.x / size.y};
    t.bid = bid;
    t.number = i;
    t.lane = i & 31;
    t.warp = i >> 5;
    t.state = READY;
    t.stack_pointer = fiber_prepare(stacks + stack_size * (i + 1), fiber_main);
  }
}

// False if the threads wait for each other for ever.
static bool run_block(uint3 bid, std::vector<unsigned>& order) {
  start_block(bid);
  bool random = launch.schedule > BACKWARD;
  if (random) shuffle(order);
  for (;;) {
    bool moved = false;
    for (unsigned i : order) {
      Thread& t = threads[i];
      if (t.state != READY) continue;
      moved = true;
      coc_cur = &t;
      coc_switch(&host_stack_pointer, t.stack_pointer);
    }
    coc_cur = nullptr;
    unsigned alive = block_threads - count_threads(ENDED);
    if (!alive) return true;
    if (count_threads(AT_BLOCK_BARRIER) == alive) {
      if (!pass_barrier(alive)) return true;
      if (random) shuffle(order);
    } else if (!moved) {
      report_deadlock();
      return false;
    }
  }
}

static void run_grid() {
  const uint3& grid = launch.grid;
  uint64_t n_block = (uint64_t)grid.x * grid.y * grid.z;
  std::vector<unsigned> order(block_threads);
  for (unsigned i = 0; i < block_threads; i++)
    order[i] = launch.schedule == BACKWARD ? block_threads - 1 - i : i;
  std::vector<uint32_t> blocks;
  if (launch.schedule > BACKWARD) {
    for (uint64_t i = 0; i < n_block; i++) blocks.push_back((uint32_t)i);
    shuffle(blocks);
  }
  for (uint64_t i = 0; i < n_block; i++) {
    uint64_t b = launch.schedule == BACKWARD ? n_block - 1 - i : blocks.empty() ? i : blocks[i];
    uint3 bid = {(unsigned)(b % grid.x), (unsigned)(b / grid.x % grid.y), (unsigned)(b / grid.x / grid.y)};
    if (!run_block(bid, order)) return;
  }
}

static bool possible() {
  const uint3 &g = launch.grid, &b = launch.block;
  uint64_t n_thread = (uint64_t)b.x * b.y * b.z, n_block = (uint64_t)g.x * g.y * g.z;
  bool block = n_thread && n_thread <= MOST_THREADS && b.z <= 64;
  if (!block || !n_block || g.x > 0x7fffffffu || g.y > 65535 || g.z > 65535) {
    report("launch", 0, 0, "grid (%u,%u,%u) of blocks (%u,%u,%u) is not allowed", g.x, g.y, g.z, b.x, b.y,
           b.z);
    return false;
  }
  size_t shared = launch.dynamic_size + launch.static_size;
  if (shared > MOST_SHARED) {
    report("launch", 0, 0, "%zu bytes of shared memory are more than any device has", shared);
    return false;
  }
  return true;
}
static void prepare_memory() {
  if (!stacks) {
    n_stack = MOST_THREADS;
    stacks = (char*)map_zeros(stack_size * n_stack);
  }
  if (!dynamic_shared) dynamic_shared = (char*)map_zeros(DYNAMIC_ROOM);
  launch_stamp++;
  last_region = nullptr;
  for (Region* region : shared_regions) free_region(region);
  shared_regions.clear();
  if (!checking) return;
  if (launch.dynamic_size)
    shared_regions.push_back(new_region(dynamic_shared, launch.dynamic_size, false, true));
  if (launch.static_size)
    shared_regions.push_back(new_region(launch.static_shared, launch.static_size, false, true));
}

// Gives the number of reports.  schedule: 0 forward, 1 backward, from 2 on random with that seed.  strict:
// see pass_barrier.  poison: what shared memory holds at the start of a block; negative: what it held before.
API int coc_launch(void (*kernel)(void**), void** parameters, const unsigned* grid, const unsigned* block,
                   size_t dynamic_size, void* static_shared, size_t static_size, int check_accesses,
                   unsigned schedule, int strict, int poison) {
  LOCK;
  reports.clear();
  coc_cur = nullptr;
  checking = check_accesses != 0;
  launch.kernel = kernel;
  launch.parameters = parameters;
  launch.grid = coc_gdim = uint3{grid[0], grid[1], grid[2]};
  launch.block = coc_bdim = uint3{block[0], block[1], block[2]};
  launch.static_shared = (char*)static_shared;
  launch.dynamic_size = dynamic_size;
  launch.static_size = static_size;
  launch.schedule = schedule;
  launch.strict = strict;
  launch.poison = poison;
  if (!possible()) return (int)reports.size();
  block_threads = block[0] * block[1] * block[2];
  threads.assign(block_threads, Thread());
  random_state = 0x9e3779b97f4a7c15ull * (schedule + 1) + 88172645463325252ull;
  prepare_memory();
  FaultHandler handler;
  if (sigsetjmp(abort_place, 1) == 0) run_grid();
  coc_cur = nullptr;
  return (int)reports.size();
}
API int coc_report(int i, char* kind, char* text, size_t size, unsigned long long* number) {
  if (i < 0 || i >= (int)reports.size()) return 0;
  const Report& r = reports[i];
  snprintf(kind, size, "%s", r.kind.c_str());
  snprintf(text, size, "%s", r.text.c_str());
  number[0] = r.pc;
  number[1] = (unsigned long long)r.line;
  number[2] = r.count;
  return 1;
}
// Size of each thread's stack, from the next launch on.
API void coc_set_stack(size_t size) {
  LOCK;
  if (stacks) munmap(stacks, stack_size * n_stack);
  stacks = nullptr;
  n_stack = 0;
  stack_size = size;
}
