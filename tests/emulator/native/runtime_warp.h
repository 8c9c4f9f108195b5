// SPDX-License-Identifier: GPL-3.0-or-later
// Barriers of a block and functions of a warp.  A thread that must wait goes back to the host's loop
// (runtime_launch.h); the last lane to arrive does the work of a warp function for all.  Part of
// cuda_on_cpu_rt.cpp.
#pragma once

API int coc_sync_block(int line, int kind, int predicate) {
  Thread* t = coc_cur;
  t->state = AT_BLOCK_BARRIER;
  t->line = line;
  t->barrier_kind = kind;
  t->predicate = predicate;
  back_to_host();
  return t->predicate;
}

// As numbered in cuda_on_cpu.h.
enum WarpOp {
  SYNC,
  SHUFFLE,
  SHUFFLE_UP,
  SHUFFLE_DOWN,
  SHUFFLE_XOR,
  BALLOT,
  MATCH_ANY,
  MATCH_ALL,
  ADD,
  MIN,
  MAX,
  AND,
  OR,
  XOR,
  SIGNED_MIN,
  SIGNED_MAX
};
enum { LARGEST_VALUE = 16 };
typedef char Values[32][LARGEST_VALUE];

static unsigned long long number_of(const Values& values, unsigned lane) {
  unsigned long long number;
  memcpy(&number, values[lane], sizeof number);
  return number;
}
// The lane from which a shuffle reads.
static unsigned source_lane(const WarpCall& call, unsigned lane) {
  int me = (int)lane, first = me & ~(call.width - 1), last = first + call.width - 1, from = me;
  switch (call.op) {
    case SHUFFLE:
      return first + (call.arg & (call.width - 1));
    case SHUFFLE_UP:
      from = me - call.arg;
      break;
    case SHUFFLE_DOWN:
      from = me + call.arg;
      break;
    case SHUFFLE_XOR:
      from = me ^ call.arg;
      break;
    default:
      break;
  }
  bool outside = call.op == SHUFFLE_UP ? from < first : from > last;
  return outside ? lane : (unsigned)from;
}
static unsigned first_value(int op) {
  switch (op) {
    case AND:
    case MIN:
      return ~0u;
    case SIGNED_MIN:
      return 0x7fffffffu;
    case SIGNED_MAX:
      return 0x80000000u;
    default:
      return 0;
  }
}
static unsigned combine(int op, unsigned a, unsigned b) {
  switch (op) {
    case ADD:
      return a + b;
    case MIN:
      return std::min(a, b);
    case MAX:
      return std::max(a, b);
    case SIGNED_MIN:
      return (unsigned)std::min((int)a, (int)b);
    case SIGNED_MAX:
      return (unsigned)std::max((int)a, (int)b);
    case AND:
      return a & b;
    case OR:
      return a | b;
    default:
      return a ^ b;
  }
}
// Result of a vote, match or reduction for one lane.
static unsigned reduce(int op, const Values& values, unsigned mask, unsigned lane) {
  unsigned result = first_value(op);
  bool all_equal = true;
  for (unsigned j = 0; j < 32; j++) {
    if (!(mask >> j & 1)) continue;
    bool equal = number_of(values, j) == number_of(values, lane);
    all_equal &= equal;
    if (op == BALLOT)
      result |= ((unsigned)number_of(values, j) & 1u) << j;
    else if (op == MATCH_ANY)
      result |= (unsigned)equal << j;
    else if (op != MATCH_ALL)
      result = combine(op, result, (unsigned)number_of(values, j));
  }
  if (op == MATCH_ALL) return all_equal ? mask : 0;
  return result;
}

static void complete(Thread* warp, unsigned mask, int op) {
  Values values = {};
  uint32_t epoch = 0;
  for (unsigned lane = 0; lane < 32; lane++) {
    if (!(mask >> lane & 1)) continue;
    Thread& t = warp[lane];
    if (t.call.in) memcpy(values[lane], t.call.in, t.call.size);
    epoch = std::max(epoch, t.warp_epoch);
  }
  for (unsigned lane = 0; lane < 32; lane++) {
    if (!(mask >> lane & 1)) continue;
    Thread& t = warp[lane];
    t.state = READY;
    if (op == SYNC) {
      t.warp_epoch = epoch + 1;
    } else if (op <= SHUFFLE_XOR) {
      unsigned from = source_lane(t.call, lane);
      if (mask >> from & 1)
        memcpy(t.call.out, values[from], t.call.size);
      else
        report("warp", 0, t.line, "shuffle reads lane %u, which is not in the mask %08x", from, mask);
    } else {
      unsigned long long result = reduce(op, values, mask, lane);
      memcpy(t.call.out, &result, std::min<size_t>(t.call.size, sizeof result));
    }
  }
}

API void coc_warp(int op, unsigned mask, const void* in, void* out, unsigned size, int arg, int width,
                  int line) {
  Thread* t = coc_cur;
  unsigned first = t->number & ~31u, lanes = std::min(32u, block_threads - first);
  Thread* warp = &threads[first];
  if (lanes < 32 && mask == 0xffffffffu) mask = (1u << lanes) - 1;  // the last, partial warp
  if (lanes < 32 && mask >> lanes) {
    report("warp", 0, line, "mask %08x has lanes beyond the end of the block", mask);
    stop_launch();
  }
  if (!(mask >> t->lane & 1)) {
    report("warp", 0, line, "the calling lane %u is not in its own mask %08x", t->lane, mask);
    stop_launch();
  }
  if (size > LARGEST_VALUE) {
    report("warp", 0, line, "shuffle of a value of more than %d bytes", LARGEST_VALUE);
    stop_launch();
  }
  t->state = AT_WARP_CALL;
  t->line = line;
  t->call = WarpCall{op, arg, width, mask, size, in, out};
  bool all = true;
  for (unsigned lane = 0; lane < lanes && all; lane++) {
    if (!(mask >> lane & 1)) continue;
    const Thread& other = warp[lane];
    all = other.state == AT_WARP_CALL && other.line == line && other.call.op == op && other.call.mask == mask;
  }
  if (all) complete(warp, mask, op);
  if (t->state != READY) back_to_host();
}
