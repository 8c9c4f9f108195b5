// SPDX-License-Identifier: GPL-3.0-or-later
// Appended to each source: the table of its kernels, and where its static shared memory lies.
// `extern "C" void coc_where(void** out)` gives address and size of this thread's static shared memory (the
// thread-local storage of this library, found in its program headers) and the library's load address.
#include <link.h>
static thread_local char coc_tls_anchor[8];  // so that there is thread-local storage at all
static int coc_find_tls(struct dl_phdr_info* library, size_t, void* result) {
  void** out = (void**)result;
  unsigned long here = (unsigned long)&coc_find_tls;
  bool ours = false;
  for (int k = 0; k < library->dlpi_phnum; k++) {
    auto& header = library->dlpi_phdr[k];
    unsigned long start = library->dlpi_addr + header.p_vaddr;
    ours |= header.p_type == PT_LOAD && here >= start && here < start + header.p_memsz;
  }
  if (!ours) return 0;
  out[2] = (void*)library->dlpi_addr;
  for (int k = 0; k < library->dlpi_phnum; k++) {
    auto& header = library->dlpi_phdr[k];
    if (header.p_type != PT_TLS) continue;
    out[0] = library->dlpi_tls_data;
    out[1] = (void*)header.p_memsz;
  }
  return 1;
}
extern "C" __attribute__((visibility("default"), no_sanitize("thread"))) void coc_where(void** out) {
  *(volatile char*)coc_tls_anchor = 0;  // allocates it for this thread
  out[0] = out[1] = out[2] = nullptr;
  dl_iterate_phdr(coc_find_tls, out);
}
#define COC_KERNEL(name, ...) \
  {name, &coc::call<&__VA_ARGS__>, &coc::info<&__VA_ARGS__>, (int)coc::sig<decltype(&__VA_ARGS__)>::n},
extern "C" __attribute__((visibility("default"))) coc_kernel coc_kernels[] = {
    COC_KERNELS_HERE{nullptr, nullptr, nullptr, 0}};
