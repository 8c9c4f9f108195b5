// SPDX-License-Identifier: GPL-3.0-or-later
// Fibers: the threads of a block, each with a stack of its own.  Part of cuda_on_cpu_rt.cpp.
//
// coc_switch(save, to) keeps the callee-saved registers on the present stack, stores the stack pointer in
// *save, and goes on where the stack pointer *to* was saved.
#pragma once

#if defined(__x86_64__)
asm(R"(
.text
.globl coc_switch
.hidden coc_switch
.type coc_switch,@function
coc_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size coc_switch,.-coc_switch
)");
extern "C" void coc_switch(void** save, void* to);
static void* fiber_prepare(char* top, void (*entry)()) {
  void** p = (void**)((uintptr_t)top & ~(uintptr_t)15);
  *--p = nullptr;  // a return address that is never used; aligns the stack
  *--p = (void*)entry;
  for (int i = 0; i < 6; i++) *--p = nullptr;
  return p;
}
#elif defined(__aarch64__)
asm(R"(
.text
.globl coc_switch
.hidden coc_switch
.type coc_switch,%function
coc_switch:
  sub sp, sp, #160
  stp x19, x20, [sp]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
)");
extern "C" void coc_switch(void** save, void* to);
static void* fiber_prepare(char* top, void (*entry)()) {
  void** p = (void**)((uintptr_t)top & ~(uintptr_t)15) - 20;
  memset(p, 0, 160);
  p[11] = (void*)entry;  // x30
  return p;
}
#else
#error "add coc_switch for this processor"
#endif

struct uint3 {
  unsigned x, y, z;
};
struct coc_ids {  // what a kernel sees, as in cuda_on_cpu.h
  uint3 tid, bid;
  unsigned lane, warp;
};
enum State : uint8_t { READY, AT_BLOCK_BARRIER, AT_WARP_CALL, ENDED };

// What a thread has given to a warp function.
struct WarpCall {
  int op, arg, width;
  unsigned mask, size;
  const void* in;
  void* out;
};
struct Thread : coc_ids {
  unsigned number;  // within its block
  State state;
  void* stack_pointer;
  int line, barrier_kind, predicate;
  uint32_t block_epoch, warp_epoch;  // barriers passed
  WarpCall call;
};

API Thread* coc_cur;  // the running thread; none while the host runs
API uint3 coc_bdim, coc_gdim;
Thread* coc_cur = nullptr;
uint3 coc_bdim, coc_gdim;

static std::vector<Thread> threads;
static unsigned block_threads;
static void* host_stack_pointer;

static void back_to_host() { coc_switch(&coc_cur->stack_pointer, host_stack_pointer); }
