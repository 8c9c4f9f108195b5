// SPDX-License-Identifier: GPL-3.0-or-later
// Modules and launches.  A module is a shared object made by emulator.source; where needed it is built a
// second time, with or without checks, by a callback.  Part of pretended_driver.cpp.
#pragma once

extern "C" {  // cuda_on_cpu_rt.cpp
int coc_launch(void (*)(void**), void**, const unsigned*, const unsigned*, size_t, void*, size_t, int,
               unsigned, int, int);
int coc_report(int, char*, char*, size_t, unsigned long long*);
void coc_module_data(void*);
}

struct CocKernel {  // as in cuda_on_cpu.h
  const char* name;
  void (*call)(void**);
  void (*info)(int* kind, int* size, int* element, int);
  int parameters;
};
enum { POINTER = 4 };  // kind of a parameter
enum { MOST_SHARED = 227 * 1024, USUAL_SHARED = 48 * 1024 };

struct Module;
struct Function {
  Module* module;
  std::string name;
  CocKernel* kernel[2] = {nullptr, nullptr};  // without and with checks
  std::vector<int> kind, size;                // of each parameter
  int dynamic_limit = USUAL_SHARED;
};
struct Module {
  std::string path[2];
  void* library[2] = {nullptr, nullptr};
  std::map<std::string, std::unique_ptr<Function>> functions;
  int device = 0;
};

typedef int (*Variant)(const char* path, int check, char* out, int size);
static Variant variant;
static const char MAGIC[] = "PRETENDED-CUDA ";

static void add_function(Module* module, CocKernel* kernel, int check) {
  auto& function = module->functions[kernel->name];
  if (!function) {
    int n = kernel->parameters;
    function = std::make_unique<Function>();
    function->module = module;
    function->name = kernel->name;
    std::vector<int> kind(n + 1), size(n + 1), element(n + 1);
    kernel->info(kind.data(), size.data(), element.data(), 0);
    function->kind.assign(kind.begin(), kind.begin() + n);
    function->size.assign(size.begin(), size.begin() + n);
  }
  function->kernel[check] = kernel;
}

static Result load(Module* module, int check) {
  if (module->library[check]) return SUCCESS;
  std::string& path = module->path[check];
  if (path.empty()) {
    std::vector<char> made(4096);
    if (!variant || variant(module->path[!check].c_str(), check, made.data(), (int)made.size())) {
      say("module cannot be built for this mode");
      return INVALID_IMAGE;
    }
    path = made.data();
  }
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    say(std::string("dlopen: ") + dlerror());
    return INVALID_IMAGE;
  }
  module->library[check] = library;
  CocKernel* kernels = (CocKernel*)dlsym(library, "coc_kernels");
  coc_module_data(kernels);
  for (CocKernel* kernel = kernels; kernel->name; kernel++) add_function(module, kernel, check);
  return SUCCESS;
}

// The image is "PRETENDED-CUDA 0 path" or "... 1 path", 1 with checks; "none" for a path: no kernels.
API Result cuModuleLoadData(void** out, const void* image) {
  LOCK;
  if (Result r = gate()) return r;
  counts["module"]++;
  if (strncmp((const char*)image, MAGIC, sizeof MAGIC - 1)) {
    say("module image was not made by the pretended NVRTC");
    return INVALID_IMAGE;
  }
  const char* text = (const char*)image + sizeof MAGIC - 1;
  int check = *text == '1';
  std::string path(text + 2);
  path = path.substr(0, path.find('\n'));
  Module* module = new Module;
  module->device = current_device;
  *out = module;
  if (path == "none") return SUCCESS;
  module->path[check] = path;
  return load(module, check);
}
API Result cuModuleUnload(void*) {  // kept: a queue may still name its kernels
  LOCK;
  if (Result r = gate()) return r;
  run_everything();
  return sticky;
}
API Result cuModuleGetFunction(void** out, void* module, const char* name) {
  LOCK;
  if (Result r = gate()) return r;
  auto& functions = ((Module*)module)->functions;
  auto it = functions.find(name);
  if (it == functions.end()) return NOT_FOUND;
  *out = it->second.get();
  return SUCCESS;
}
// Note: a module has one copy of its variables with, and one without checks.
API Result cuModuleGetGlobal_v2(DevicePtr* out, size_t* size, void* m, const char* name) {
  LOCK;
  if (Result r = gate()) return r;
  Module* module = (Module*)m;
  int check = settings.check;
  if (module->functions.empty() || load(module, check)) return NOT_FOUND;
  void* address = dlsym(module->library[check], name);
  Dl_info info;
  ElfW(Sym)* symbol = nullptr;
  if (!address || !dladdr1(address, &info, (void**)&symbol, RTLD_DL_SYMENT) || !symbol) return NOT_FOUND;
  *out = (DevicePtr)address;
  if (size) *size = symbol->st_size;
  device_memory[(uintptr_t)address] = Block{symbol->st_size, module->device};
  return SUCCESS;
}

// Invented, but for the limit of dynamic shared memory (attribute 8).
API Result cuFuncGetAttribute(int* value, int attribute, void* f) {
  LOCK;
  Function* function = (Function*)f;
  switch (attribute) {
    case 0:
      *value = 1024;
      break;  // most threads a block
    case 4:
      *value = 32;
      break;  // registers
    case 5:
    case 6:
      *value = settings.cc;
      break;
    case 8:
      *value = function->dynamic_limit;
      break;
    default:
      *value = 0;
  }
  return SUCCESS;
}
API Result cuFuncSetAttribute(void* f, int attribute, int value) {
  LOCK;
  if (Result r = gate()) return r;
  if (attribute != 8) return SUCCESS;
  if (value > MOST_SHARED) return INVALID_VALUE;
  ((Function*)f)->dynamic_limit = value;
  return SUCCESS;
}
API Result cuOccupancyMaxActiveBlocksPerMultiprocessor(int* blocks, void*, int threads, size_t shared) {
  bool possible = threads > 0 && threads <= 1024;
  int by_shared = shared ? (int)(228 * 1024 / shared) : 32;
  *blocks = possible ? std::max(1, std::min(2048 / threads, by_shared)) : 0;
  return SUCCESS;
}
API Result cuOccupancyMaxPotentialBlockSize(int* grid, int* block, void*, void*, size_t, int limit) {
  *grid = 132;
  *block = limit ? std::min(limit, 256) : 256;
  return SUCCESS;
}

// "file:line" of an address in a shared object that was loaded at *base*.
static std::string source_line(const std::string& path, void* base, unsigned long long pc,
                               unsigned long long line) {
  if (!pc) return line ? "line " + std::to_string(line) : "";
  unsigned long long offset = pc - 1 - (unsigned long long)(uintptr_t)base;
  char command[1200], text[600] = "";
  snprintf(command, sizeof command, "addr2line -i -e '%s' 0x%llx 2>/dev/null", path.c_str(), offset);
  std::string found;
  FILE* pipe = popen(command, "r");
  if (!pipe) return found;
  while (fgets(text, sizeof text, pipe))
    if (found.empty() && !strstr(text, "cuda_on_cpu.h") && !strstr(text, "??")) found = text;
  pclose(pipe);
  return found.substr(0, found.find('\n'));
}

static void run_kernel(Function* function, std::vector<std::string> values, const unsigned* grid,
                       const unsigned* block, size_t shared) {
  int check = settings.check;
  if (!device_lives()) return;
  if (Result r = load(function->module, check)) {
    sticky = r;
    return;
  }
  std::vector<void*> parameters;
  for (auto& value : values) parameters.push_back(&value[0]);
  parameters.push_back(nullptr);
  void* where[3] = {nullptr, nullptr, nullptr};  // static shared memory and its size, load address
  ((void (*)(void**))dlsym(function->module->library[check], "coc_where"))(where);
  int n = coc_launch(function->kernel[check]->call, parameters.data(), grid, block, shared, where[0],
                     (size_t)where[1], check, settings.schedule, 1, 0xCB);
  char kind[64], text[700];
  unsigned long long number[3];  // address, line, how often
  for (int i = 0; i < n && coc_report(i, kind, text, sizeof text, number); i++) {
    say(function->name + ": " + kind + ": " + text + " at " +
        source_line(function->module->path[check], where[2], number[0], number[1]));
    bool memory = !strcmp(kind, "out of bounds") || !strcmp(kind, "misaligned");
    bool other = !strcmp(kind, "trap") || !strcmp(kind, "divergence");
    if (memory)
      sticky = ILLEGAL_ADDRESS;
    else if (other && !sticky)
      sticky = LAUNCH_FAILED;
  }
}

// True if a pointer among the parameters is memory of another device.
static bool foreign_pointer(Function* function, const std::vector<std::string>& values) {
  for (size_t i = 0; i < values.size(); i++) {
    if (function->kind[i] != POINTER) continue;
    void* p;
    memcpy(&p, values[i].data(), sizeof p);
    auto it = block_of(device_memory, p, 0);
    if (it != device_memory.end() && it->second.device != function->module->device) return true;
  }
  return false;
}

API Result cuLaunchKernel(void* f, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                          unsigned block_y, unsigned block_z, unsigned shared, void* handle,
                          void** parameters, void** extra) {
  LOCK;
  if (Result r = gate()) return r;
  Function* function = (Function*)f;
  Stream* stream = stream_of(handle);
  if (extra) return NOT_SUPPORTED;
  if (!known(stream) || function->module->device != current_device) return INVALID_HANDLE;
  if (stream->device >= 0 && stream->device != current_device) return INVALID_HANDLE;
  bool empty = !grid_x || !grid_y || !grid_z || !block_x || !block_y || !block_z;
  if (empty || (uint64_t)block_x * block_y * block_z > 1024 || grid_y > 65535 || grid_z > 65535)
    return INVALID_VALUE;
  if ((int)shared > function->dynamic_limit) {
    say(function->name + ": dynamic shared memory above the limit set for this kernel");
    return INVALID_VALUE;
  }
  std::vector<std::string> values;
  for (size_t i = 0; i < function->size.size(); i++)
    values.emplace_back((const char*)parameters[i], function->size[i]);
  push(stream, "launch", [=] {
    unsigned grid[3] = {grid_x, grid_y, grid_z}, block[3] = {block_x, block_y, block_z};
    if (foreign_pointer(function, values)) {
      say(function->name + ": pointer to memory of another device");
      sticky = ILLEGAL_ADDRESS;
      return;
    }
    run_kernel(function, values, grid, block, shared);
  });
  return SUCCESS;
}
