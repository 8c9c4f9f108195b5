// SPDX-License-Identifier: GPL-3.0-or-later
// Memory of the device, page-locked memory of the host, copies and memset.  Part of pretended_driver.cpp.
#pragma once

extern "C" {  // cuda_on_cpu_rt.cpp
void* coc_guard_alloc(size_t, size_t, int);
int coc_guard_free(void*);
void coc_mem_add(void*, size_t, int, int);
void coc_mem_del(void*);
void coc_mem_inited(const void*, size_t);
int coc_mem_uninit(const void*, size_t);
}

struct Block {
  size_t size;
  int device;
};
typedef std::map<uintptr_t, Block> Blocks;
static Blocks device_memory, pinned_memory, registered_memory;  // the registered are pinned, too
static std::map<int, size_t> memory_used;                       // by device

// The block in which *size* bytes from *p* lie, or the end of *blocks*.
static Blocks::iterator block_of(Blocks& blocks, const void* p, size_t size) {
  uintptr_t address = (uintptr_t)p;
  auto it = blocks.upper_bound(address);
  if (it == blocks.begin()) return blocks.end();
  --it;
  size_t offset = address - it->first;
  bool inside = offset + size <= it->second.size && (offset < it->second.size || !size);
  return inside ? it : blocks.end();
}
static bool lies_in(Blocks& blocks, const void* p, size_t size) {
  return block_of(blocks, p, size) != blocks.end();
}

API Result cuMemAlloc_v2(DevicePtr* out, size_t size) {
  LOCK;
  if (Result r = gate()) return r;
  counts["malloc"]++;
  if (!size) return INVALID_VALUE;
  size_t& in_use = memory_used[current_device];
  if (in_use + size > settings.memory || settings.fail_alloc_after == 0) {
    return OUT_OF_MEMORY;
  }
  if (settings.fail_alloc_after > 0) settings.fail_alloc_after--;
  void* p = coc_guard_alloc((size + 511) / 512 * 512, 512, 0xCB);
  coc_mem_add(p, size, 0, 0);
  device_memory[(uintptr_t)p] = Block{size, current_device};
  in_use += size;
  *out = (DevicePtr)p;
  return SUCCESS;
}
static Result release(DevicePtr p) {
  auto it = device_memory.find(p);
  if (it == device_memory.end()) return INVALID_VALUE;
  memory_used[it->second.device] -= it->second.size;
  device_memory.erase(it);
  coc_mem_del((void*)p);
  coc_guard_free((void*)p);
  return SUCCESS;
}
API Result cuMemFree_v2(DevicePtr p) {
  LOCK;
  if (Result r = gate()) return r;
  counts["free"]++;
  if (!p) return SUCCESS;
  run_everything();
  Result r = release(p);
  return sticky ? sticky : r;
}
API Result cuMemFreeAsync(DevicePtr p, void* handle) {
  LOCK;
  if (Result r = gate()) return r;
  push(stream_of(handle), "free_async", [=] { release(p); });
  return sticky;
}
API Result cuMemGetInfo_v2(size_t* free, size_t* total) {
  LOCK;
  if (Result r = gate()) return r;
  *free = settings.memory - memory_used[current_device];
  *total = settings.memory;
  return SUCCESS;
}

API Result cuMemHostAlloc(void** out, size_t size, unsigned) {
  LOCK;
  if (Result r = gate()) return r;
  counts["pinned"]++;
  *out = aligned_alloc(4096, (size + 4095) / 4096 * 4096);
  if (!*out) return OUT_OF_MEMORY;
  memset(*out, 0xCB, size);
  pinned_memory[(uintptr_t)*out] = Block{size, current_device};
  return SUCCESS;
}
API Result cuMemFreeHost(void* p) {
  LOCK;
  if (Result r = gate()) return r;
  run_everything();
  if (!pinned_memory.erase((uintptr_t)p)) return INVALID_VALUE;
  free(p);
  return sticky;
}
API Result cuMemHostRegister_v2(void* p, size_t size, unsigned) {
  LOCK;
  if (Result r = gate()) return r;
  if (!p || !size) return INVALID_VALUE;
  auto next = pinned_memory.lower_bound((uintptr_t)p + size);
  if (next != pinned_memory.begin()) {
    auto before = std::prev(next);
    if (before->first + before->second.size > (uintptr_t)p) return ALREADY_REGISTERED;
  }
  counts["register"]++;
  pinned_memory[(uintptr_t)p] = registered_memory[(uintptr_t)p] = Block{size, current_device};
  return SUCCESS;
}
API Result cuMemHostUnregister(void* p) {
  LOCK;
  if (Result r = gate()) return r;
  run_everything();
  if (!registered_memory.erase((uintptr_t)p)) return NOT_REGISTERED;
  pinned_memory.erase((uintptr_t)p);
  counts["unregister"]++;
  return sticky;
}

// Only the kind of memory (1 host, 2 device) and the device can be asked for.
API Result cuPointerGetAttribute(void* out, int attribute, DevicePtr p) {
  LOCK;
  auto device = block_of(device_memory, (void*)p, 0), host = block_of(pinned_memory, (void*)p, 0);
  bool on_device = device != device_memory.end(), on_host = host != pinned_memory.end();
  if (!on_device && !on_host) return INVALID_VALUE;
  if (attribute == 2)
    *(unsigned*)out = on_device ? 2 : 1;
  else if (attribute == 9)
    *(int*)out = on_device ? device->second.device : host->second.device;
  else
    return NOT_SUPPORTED;
  return SUCCESS;
}

static bool stray(const char* what, const void* p, size_t size) {
  if (lies_in(device_memory, p, size)) return false;
  say(std::string(what) + ": " + std::to_string(size) + " bytes do not lie in one device allocation");
  return true;
}
static void move_bytes(void* to, const void* from, size_t size) {
  bool to_host = !lies_in(device_memory, to, 0);
  if (settings.check && to_host && coc_mem_uninit(from, size))
    say("copy to the host of device memory that was never written");
  memmove(to, from, size);
  coc_mem_inited(to, size);
}

static Result copy(void* to, const void* from, size_t size, Stream* stream, bool async) {
  if (Result r = gate()) return r;
  if (!known(stream)) return INVALID_HANDLE;
  if (!size) return SUCCESS;
  bool to_device = lies_in(device_memory, to, 0), from_device = lies_in(device_memory, from, 0);
  const char* what =
      to_device ? (from_device ? "copy_dd" : "copy_hd") : (from_device ? "copy_dh" : "copy_hh");
  if ((to_device && stray(what, to, size)) || (from_device && stray(what, from, size))) return INVALID_VALUE;
  bool direct =
      (to_device || lies_in(pinned_memory, to, size)) && (from_device || lies_in(pinned_memory, from, size));
  if (async && direct) {
    push(stream, what, [=] { move_bytes(to, from, size); });
    return sticky;
  }
  if (async && !from_device) {  // pageable: the driver has read the source when the call returns
    auto staged = std::make_shared<std::string>((const char*)from, size);
    push(stream, what, [=] { move_bytes(to, staged->data(), size); });
    return sticky;
  }
  push(stream, what, [=] { move_bytes(to, from, size); });
  return finish(stream);  // pageable target, or no async copy: waits
}
API Result cuMemcpy(DevicePtr to, DevicePtr from, size_t size) {
  LOCK;
  return copy((void*)to, (void*)from, size, &default_stream, false);
}
API Result cuMemcpyAsync(DevicePtr to, DevicePtr from, size_t size, void* handle) {
  LOCK;
  return copy((void*)to, (void*)from, size, stream_of(handle), true);
}
// Rows of *width* bytes.
API Result pretended_copy_2d(DevicePtr to, size_t to_pitch, DevicePtr from, size_t from_pitch, size_t width,
                             size_t height, void* handle, int async) {
  LOCK;
  if (Result r = gate()) return r;
  if (!known(stream_of(handle))) return INVALID_HANDLE;
  push(stream_of(handle), "copy_2d", [=] {
    for (size_t y = 0; y < height; y++)
      move_bytes((char*)to + y * to_pitch, (const char*)from + y * from_pitch, width);
  });
  return async ? sticky : finish(stream_of(handle));
}
static Result fill(DevicePtr p, unsigned char value, size_t size, Stream* stream) {
  if (Result r = gate()) return r;
  if (!known(stream)) return INVALID_HANDLE;
  if (stray("memset", (void*)p, size)) return INVALID_VALUE;
  push(stream, "memset", [=] {
    memset((void*)p, value, size);
    coc_mem_inited((void*)p, size);
  });
  return sticky;
}
API Result cuMemsetD8_v2(DevicePtr p, unsigned char value, size_t size) {
  LOCK;
  return fill(p, value, size, &default_stream);
}
API Result cuMemsetD8Async(DevicePtr p, unsigned char value, size_t size, void* handle) {
  LOCK;
  return fill(p, value, size, stream_of(handle));
}
