// SPDX-License-Identifier: GPL-3.0-or-later
// Reports, the memory that kernels may touch, and the check of each access.  Part of cuda_on_cpu_rt.cpp.
#pragma once

// ---- reports ---------------------------------------------------------------------------------------------
struct Report {
  std::string kind, text;
  uintptr_t pc;
  int line;
  unsigned long long count;
};
enum { MOST_REPORTS = 64 };
static std::vector<Report> reports;
static sigjmp_buf abort_place;

// Adds a report; the same kind at the same place is only counted.
__attribute__((format(printf, 4, 5))) static void report(const char* kind, uintptr_t pc, int line,
                                                         const char* format, ...) {
  for (auto& r : reports) {
    if (r.kind != kind || r.pc != pc || r.line != line) continue;
    r.count++;
    return;
  }
  if (reports.size() >= MOST_REPORTS) return;
  char text[512], who[160] = "";
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  if (coc_cur) {
    const uint3 &b = coc_cur->bid, &t = coc_cur->tid;
    snprintf(who, sizeof who, " [block %u,%u,%u thread %u,%u,%u]", b.x, b.y, b.z, t.x, t.y, t.z);
  }
  reports.push_back(Report{kind, std::string(text) + who, pc, line, 1});
}
[[noreturn]] static void stop_launch() { siglongjmp(abort_place, 1); }
API void coc_fail(const char* what, int line) {
  report("trap", 0, line, "%s", what);
  stop_launch();
}

// ---- memory ----------------------------------------------------------------------------------------------
// Who has read a byte besides its last reader, since the last write.
enum OtherReaders : uint8_t { IN_WARP = 1, IN_BLOCK = 2, IN_OTHER_BLOCK = 4 };

// The history of one byte in this launch (for shared memory: in this block).  Threads are numbered from 1
// through the whole grid; epochs count the barriers that a thread had passed.
struct Cell {
  uint32_t stamp;  // of the launch or block that this is the history of
  uint32_t writer, writer_block_epoch, writer_warp_epoch;
  uint32_t reader, reader_block_epoch, reader_warp_epoch;
  bool write_was_atomic;
  uint8_t other_readers;
};
struct Region {
  uintptr_t base;
  size_t size;
  bool shared, readonly;
  Cell* cells;
  uint8_t* written;  // a byte for each byte
};
static std::map<uintptr_t, Region*> device_regions;
static std::vector<Region*> shared_regions;  // of this launch
static std::vector<std::pair<uintptr_t, uintptr_t>> module_data;
static bool checking;
static uint32_t launch_stamp, block_stamp;
static Region* last_region;  // most accesses go where the last one went

static size_t at_least_one(size_t size) { return size ? size : 1; }
static void* map_zeros(size_t size) {
  int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* p = mmap(nullptr, at_least_one(size), PROT_READ | PROT_WRITE, flags, -1, 0);
  if (p == MAP_FAILED) {
    fprintf(stderr, "cuda_on_cpu: out of memory\n");
    abort();
  }
  return p;
}
static Region* new_region(void* p, size_t size, bool written, bool shared) {
  Region* region = new Region();
  region->base = (uintptr_t)p;
  region->size = size;
  region->shared = shared;
  region->cells = (Cell*)map_zeros(size * sizeof(Cell));
  region->written = (uint8_t*)map_zeros(size);
  if (written) memset(region->written, 1, size);
  return region;
}
static void free_region(Region* region) {
  munmap(region->cells, at_least_one(region->size * sizeof(Cell)));
  munmap(region->written, at_least_one(region->size));
  delete region;
}
static Region* find_device_region(uintptr_t address) {
  auto it = device_regions.upper_bound(address);
  if (it == device_regions.begin()) return nullptr;
  Region* region = std::prev(it)->second;
  return address - region->base < region->size ? region : nullptr;
}

API void coc_mem_del(void* p) {
  LOCK;
  auto it = device_regions.find((uintptr_t)p);
  if (it == device_regions.end()) return;
  free_region(it->second);
  device_regions.erase(it);
}
API void coc_mem_add(void* p, size_t size, int written, int readonly) {
  LOCK;
  if (!size) return;
  coc_mem_del(p);
  Region* region = new_region(p, size, written, false);
  region->readonly = readonly;
  device_regions[(uintptr_t)p] = region;
}
// Written by the host, or by a copy.
API void coc_mem_inited(const void* p, size_t size) {
  LOCK;
  Region* region = find_device_region((uintptr_t)p);
  if (!region) return;
  size_t offset = (uintptr_t)p - region->base;
  memset(region->written + offset, 1, std::min(size, region->size - offset));
}
// 1 if all bytes lie in one allocation.
API int coc_mem_has(const void* p, size_t size) {
  LOCK;
  Region* region = find_device_region((uintptr_t)p);
  return region && (uintptr_t)p - region->base + size <= region->size;
}
// 1 if there are bytes that were never written.
API int coc_mem_uninit(const void* p, size_t size) {
  LOCK;
  Region* region = find_device_region((uintptr_t)p);
  if (!region) return 0;
  size_t offset = (uintptr_t)p - region->base;
  return memchr(region->written + offset, 0, std::min(size, region->size - offset)) != nullptr;
}

// Memory whose end touches a page that cannot be accessed.
struct Guarded {
  char* map;
  size_t size;
};
static std::map<uintptr_t, Guarded> guarded;
API void* coc_guard_alloc(size_t size, size_t align, int fill) {
  LOCK;
  size_t page = (size_t)sysconf(_SC_PAGESIZE), body = (size + align + page - 1) / page * page;
  char* map = (char*)map_zeros(body + 2 * page);
  mprotect(map, page, PROT_NONE);
  mprotect(map + page + body, page, PROT_NONE);
  char* p = (char*)((uintptr_t)(map + page + body - size) & ~(uintptr_t)(align - 1));
  if (fill >= 0) memset(map + page, fill, body);
  guarded[(uintptr_t)p] = Guarded{map, body + 2 * page};
  return p;
}
API int coc_guard_free(void* p) {
  LOCK;
  auto it = guarded.find((uintptr_t)p);
  if (it == guarded.end()) return 0;
  munmap(it->second.map, it->second.size);
  guarded.erase(it);
  return 1;
}

// The data of the shared object that contains an address: its __device__ and __constant__ variables.
static int add_module(struct dl_phdr_info* library, size_t, void* inside) {
  bool contains = false;
  std::vector<std::pair<uintptr_t, uintptr_t>> parts;
  for (int k = 0; k < library->dlpi_phnum; k++) {
    auto& header = library->dlpi_phdr[k];
    if (header.p_type != PT_LOAD) continue;
    uintptr_t start = library->dlpi_addr + header.p_vaddr, end = start + header.p_memsz;
    contains |= (uintptr_t)inside >= start && (uintptr_t)inside < end;
    parts.push_back({start, end});
  }
  if (!contains) return 0;
  module_data.insert(module_data.end(), parts.begin(), parts.end());
  return 1;
}
API void coc_module_data(void* inside) {
  LOCK;
  if (module_data.empty()) dl_iterate_phdr(add_module, (void*)&coc_cur);
  dl_iterate_phdr(add_module, inside);
}

// ---- the order of accesses -------------------------------------------------------------------------------
static char* stacks;
static size_t stack_size = 64 * 1024;
static unsigned n_stack;

static uint32_t block_number(uint32_t thread) { return (thread - 1) / block_threads; }
static uint32_t warp_number(uint32_t thread) { return (thread - 1) % block_threads >> 5; }
static uint32_t number_in_grid(const Thread* t) {
  uint64_t block = (t->bid.z * (uint64_t)coc_gdim.y + t->bid.y) * coc_gdim.x + t->bid.x;
  return (uint32_t)block * block_threads + t->number + 1;
}

// True if what thread *other* did at those epochs comes before what *me* does now, in any order of threads.
static bool comes_before(uint32_t other, uint32_t block_epoch, uint32_t warp_epoch, uint32_t me) {
  if (other == me) return true;
  if (block_number(other) != block_number(me)) return false;
  if (block_epoch < coc_cur->block_epoch) return true;
  return warp_number(other) == warp_number(me) && warp_epoch < coc_cur->warp_epoch;
}

// *me* becomes the last reader; what is kept of the others are those that no barrier has separated from it.
// All threads of a block are in the same block epoch at any time, so only the last reader's need be known.
static void note_read(Cell& cell, uint32_t me) {
  uint8_t others = cell.other_readers;
  if (cell.reader) {
    bool same_warp = warp_number(cell.reader) == warp_number(me);
    if (block_number(cell.reader) != block_number(me)) {
      others = IN_OTHER_BLOCK;
    } else if (cell.reader_block_epoch < coc_cur->block_epoch) {
      others &= IN_OTHER_BLOCK;
    } else if (!same_warp) {
      others = (others & IN_OTHER_BLOCK) | IN_BLOCK;
    } else if (cell.reader_warp_epoch < coc_cur->warp_epoch) {
      others &= ~IN_WARP;
    } else if (cell.reader != me) {
      others |= IN_WARP;
    }
  }
  cell.other_readers = others;
  cell.reader = me;
  cell.reader_block_epoch = coc_cur->block_epoch;
  cell.reader_warp_epoch = coc_cur->warp_epoch;
}
// True if a reader is not separated by a barrier from a write by *me*.
static bool races_with_readers(const Cell& cell, uint32_t me) {
  if (!cell.reader) return false;
  if (!comes_before(cell.reader, cell.reader_block_epoch, cell.reader_warp_epoch, me)) return true;
  if (cell.other_readers & IN_OTHER_BLOCK) return true;
  if (cell.reader_block_epoch < coc_cur->block_epoch) return false;
  if (cell.other_readers & IN_BLOCK) return true;
  return (cell.other_readers & IN_WARP) && cell.reader_warp_epoch >= coc_cur->warp_epoch;
}
static void note_write(Cell& cell, uint32_t me, bool atomic) {
  cell.writer = me;
  cell.writer_block_epoch = coc_cur->block_epoch;
  cell.writer_warp_epoch = coc_cur->warp_epoch;
  cell.write_was_atomic = atomic;
  cell.reader = 0;
  cell.other_readers = 0;
}

// ---- the check of one access -----------------------------------------------------------------------------
// Stacks, threadIdx and the like: not the kernel's memory.
static bool is_own(uintptr_t a) {
  if (a - (uintptr_t)stacks < stack_size * n_stack) return true;
  if (a - (uintptr_t)threads.data() < threads.size() * sizeof(Thread)) return true;
  return a == (uintptr_t)&coc_cur || a - (uintptr_t)&coc_bdim < sizeof coc_bdim ||
         a - (uintptr_t)&coc_gdim < sizeof coc_gdim;
}
// The region of an address; none for a variable of a module, which is not checked.
static Region* region_of(uintptr_t address, unsigned size, bool write, uintptr_t pc) {
  if (last_region && address - last_region->base < last_region->size) return last_region;
  Region* region = nullptr;
  for (Region* shared : shared_regions)
    if (address - shared->base < shared->size) region = shared;
  if (!region) region = find_device_region(address);
  if (region) return last_region = region;
  for (auto& data : module_data)
    if (address >= data.first && address < data.second) return nullptr;
  report("out of bounds", pc, 0, "%s of %u bytes at an address outside every buffer",
         write ? "write" : "read", size);
  stop_launch();
}

static void check(uintptr_t address, unsigned size, bool write, bool atomic, uintptr_t pc) {
  if (!coc_cur || is_own(address)) return;
  Region* region = region_of(address, size, write, pc);
  if (!region) return;
  size_t offset = address - region->base;
  if (offset + size > region->size) {
    report("out of bounds", pc, 0, "%s of %u bytes, %zu beyond the end of a buffer of %zu bytes",
           write ? "write" : "read", size, offset + size - region->size, region->size);
    stop_launch();
  }
  if (address % size && (size & (size - 1)) == 0) {
    report("misaligned", pc, 0, "access of %u bytes at an address that is no multiple of it", size);
    stop_launch();
  }
  if (write && region->readonly)
    report("write to input", pc, 0, "write to a buffer that was declared read-only");
  uint32_t stamp = region->shared ? block_stamp : launch_stamp, me = number_in_grid(coc_cur), other = 0;
  bool never_written = false;
  const char* race = nullptr;
  for (size_t i = offset; i < offset + size; i++) {
    Cell& cell = region->cells[i];
    if (cell.stamp != stamp) {
      cell = Cell();
      cell.stamp = stamp;
      if (region->shared) region->written[i] = 0;
    }
    if ((!write || atomic) && !region->written[i]) never_written = true;
    bool both_atomic = atomic && cell.write_was_atomic;
    if (cell.writer && !both_atomic &&
        !comes_before(cell.writer, cell.writer_block_epoch, cell.writer_warp_epoch, me)) {
      race = write ? "write after write" : "read after write";
      other = cell.writer;
    }
    if (write && races_with_readers(cell, me)) {
      race = "write after read";
      other = cell.reader;
    }
    if (write) {
      note_write(cell, me, atomic);
      region->written[i] = 1;
    } else {
      note_read(cell, me);
    }
  }
  const char* kind = region->shared ? "shared" : "device";
  if (never_written) report("uninitialised", pc, 0, "read of %s memory that was never written", kind);
  if (race)
    report("race", pc, 0, "%s on %s memory at byte %zu, other access by block %u thread %u", race, kind,
           offset, block_number(other), (other - 1) % block_threads);
}

API void coc_atomic(const void* p, unsigned size, void* pc) {
  if (checking) check((uintptr_t)p, size, true, true, (uintptr_t)pc);
}

// The calls that g++ -fsanitize=thread puts before each access.
#define PC ((uintptr_t)__builtin_return_address(0))
#define ACCESS(size)                                                                             \
  API void __tsan_read##size(void* p) { check((uintptr_t)p, size, false, false, PC); }           \
  API void __tsan_write##size(void* p) { check((uintptr_t)p, size, true, false, PC); }           \
  API void __tsan_unaligned_read##size(void* p) { check((uintptr_t)p, size, false, false, PC); } \
  API void __tsan_unaligned_write##size(void* p) { check((uintptr_t)p, size, true, false, PC); } \
  API void __tsan_volatile_read##size(void* p) { check((uintptr_t)p, size, false, false, PC); }  \
  API void __tsan_volatile_write##size(void* p) { check((uintptr_t)p, size, true, false, PC); }
ACCESS(1)
ACCESS(2)
ACCESS(4)
ACCESS(8)
ACCESS(16)
API void __tsan_read_range(void* p, size_t size) {
  for (size_t i = 0; i < size; i++) check((uintptr_t)p + i, 1, false, false, PC);
}
API void __tsan_write_range(void* p, size_t size) {
  for (size_t i = 0; i < size; i++) check((uintptr_t)p + i, 1, true, false, PC);
}
API void __tsan_init() {}
API void __tsan_func_entry(void*) {}
API void __tsan_func_exit() {}
API void __tsan_vptr_update(void**, void*) {}
API void __tsan_vptr_read(void**) {}

// The calls of -fsanitize=bounds,shift,integer-divide-by-zero.
struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
static void undefined(const SourceLocation* place, uintptr_t pc, const char* text) {
  if (!coc_cur) return;
  report("undefined", pc, (int)place->line, "%s", text);
  stop_launch();
}
API void __ubsan_handle_out_of_bounds(SourceLocation* place, void*) {
  undefined(place, PC, "index outside an array of fixed size");
}
API void __ubsan_handle_shift_out_of_bounds(SourceLocation* place, void*, void*) {
  undefined(place, PC, "shift by a negative or too large amount");
}
API void __ubsan_handle_divrem_overflow(SourceLocation* place, void*, void*) {
  undefined(place, PC, "integer division by zero or overflow");
}
