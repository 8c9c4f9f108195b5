// SPDX-License-Identifier: GPL-3.0-or-later
// What pretended_cuda.py and pretended_cupy.cpp call besides the driver's own functions.  Part of
// pretended_driver.cpp.
#pragma once

// Returns 0 for an unknown key.  order: -1 lazy, 0 eager, else the seed of a random order.
API int pretended_set(const char* key, long long value) {
  LOCK;
  std::string k(key);
  if (k == "devices") {
    settings.devices = (int)value;
  } else if (k == "cc") {
    settings.cc = (int)value;
  } else if (k == "memory") {
    settings.memory = (size_t)value;
  } else if (k == "schedule") {
    settings.schedule = (int)value;
  } else if (k == "driver") {
    settings.driver_version = (int)value;
  } else if (k == "fail_alloc_after") {
    settings.fail_alloc_after = value;
  } else if (k == "lose_after") {
    settings.lose_after = value < 0 ? -1 : kernels_run + value;
  } else if (k == "hang_after") {
    settings.hang_after = value < 0 ? -1 : kernels_run + value;
  } else if (k == "check") {
    run_everything();
    settings.check = value != 0;
  } else if (k == "order") {
    run_everything();
    settings.order = value < 0 ? LAZY : value == 0 ? EAGER : RANDOM;
    random_state = 88172645463325252ull + (uint64_t)value * 7919;
  } else {
    return 0;
  }
  return 1;
}
API int pretended_set_text(const char* key, const char* value) {
  LOCK;
  std::string k(key);
  if (k == "lose_once")
    settings.lose_once = value;
  else if (k == "log")
    settings.log = value;
  else
    return 0;
  return 1;
}

// Forgets queued work, errors, messages, counts and faults that have not struck; memory stays.
API void pretended_reset() {
  LOCK;
  for (Stream* stream : streams) {
    stream->queue.clear();
    stream->done = stream->queued;
  }
  sticky = SUCCESS;
  messages.clear();
  counts.clear();
  settings.fail_alloc_after = settings.lose_after = settings.hang_after = -1;
}
API const char* pretended_messages() {
  LOCK;
  static std::string copy;
  copy = messages;
  return copy.c_str();
}
API unsigned long long pretended_count(const char* what) {
  LOCK;
  auto it = counts.find(what);
  return it == counts.end() ? 0 : it->second;
}
API unsigned long long pretended_pending() {
  LOCK;
  unsigned long long n = 0;
  for (Stream* stream : streams) n += stream->queue.size();
  return n;
}

API int pretended_current_device() { return current_device; }
API Result pretended_use_device(int device) {
  LOCK;
  if (forked) return NOT_INITIALIZED;
  used = true;
  if (device < 0 || device >= visible_devices()) return INVALID_DEVICE;
  current_device = device;
  return SUCCESS;
}
