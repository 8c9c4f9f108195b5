// SPDX-License-Identifier: GPL-3.0-or-later
// Streams and events: queues of operations, and how far each has come.  Part of pretended_driver.cpp.
#pragma once

// Current device of the calling thread, as cudaSetDevice keeps it.
static thread_local int current_device = 0;

struct Operation {
  std::function<void()> run;
  uint64_t number;
};
struct Stream {
  bool blocking = true;  // with respect to the default stream
  int device = -1;       // -1: any
  std::deque<Operation> queue;
  uint64_t done = 0, queued = 0;  // numbers of operations
};
struct Event {
  Stream* stream = nullptr;  // none: never recorded
  uint64_t number = 0;       // done when the stream has come so far
  bool timing = true;
};
static Stream default_stream, per_thread_stream;
static std::set<Stream*> streams = {&default_stream, &per_thread_stream};

static Stream* stream_of(void* handle) {
  if (handle == nullptr || handle == (void*)1) return &default_stream;
  return handle == (void*)2 ? &per_thread_stream : (Stream*)handle;
}
static bool known(Stream* stream) { return streams.count(stream) != 0; }

static void run_to(Stream* stream, uint64_t number) {
  while (!stream->queue.empty() && stream->queue.front().number <= number) {
    Operation operation = std::move(stream->queue.front());
    stream->queue.pop_front();
    operation.run();  // may run other streams first
    stream->done = operation.number;
  }
}
static void run_all(Stream* stream) { run_to(stream, stream->queued); }
static void run_one(Stream* stream) {
  if (!stream->queue.empty()) run_to(stream, stream->queue.front().number);
}
static void run_everything() {
  for (Stream* stream : std::set<Stream*>(streams)) run_all(stream);
}
static Result finish(Stream* stream) {
  run_all(stream);
  return sticky;
}

// With a random order, anything may move on whenever the host does something.
static void maybe_progress() {
  while (settings.order == RANDOM && (random_number() & 1)) {
    std::vector<Stream*> busy;
    for (Stream* stream : streams)
      if (!stream->queue.empty()) busy.push_back(stream);
    if (busy.empty()) return;
    run_one(busy[random_number() % busy.size()]);
  }
}

// The default stream waits for all blocking streams, and they for it.
static std::vector<std::pair<Stream*, uint64_t>> implied_waits(Stream* stream) {
  std::vector<std::pair<Stream*, uint64_t>> waits;
  if (stream == &default_stream) {
    for (Stream* other : streams)
      if (other != stream && other->blocking && other->done < other->queued)
        waits.push_back({other, other->queued});
  } else if (stream->blocking && default_stream.done < default_stream.queued) {
    waits.push_back({&default_stream, default_stream.queued});
  }
  return waits;
}

static void push(Stream* stream, const char* what, std::function<void()> run) {
  counts[what]++;
  auto waits = implied_waits(stream);
  auto whole = [=] {
    for (auto& wait : waits)
      if (known(wait.first)) run_to(wait.first, wait.second);
    if (!sticky) run();  // a lost device does nothing
  };
  stream->queue.push_back(Operation{whole, ++stream->queued});
  if (settings.order == EAGER) run_all(stream);
  maybe_progress();
}

API Result cuStreamCreateWithPriority(void** out, unsigned flags, int) {
  LOCK;
  if (Result r = gate()) return r;
  Stream* stream = new Stream;
  stream->blocking = !(flags & 1);
  stream->device = current_device;
  streams.insert(stream);
  *out = stream;
  return SUCCESS;
}
API Result cuStreamDestroy_v2(void* handle) {
  LOCK;
  if (Result r = gate()) return r;
  Stream* stream = (Stream*)handle;
  if (!known(stream)) return INVALID_HANDLE;
  run_all(stream);
  streams.erase(stream);
  delete stream;
  return sticky;
}
API Result cuStreamSynchronize(void* handle) {
  LOCK;
  if (Result r = gate()) return r;
  counts["sync_stream"]++;
  Stream* stream = stream_of(handle);
  if (!known(stream)) return INVALID_HANDLE;
  if (stream == &default_stream)
    for (Stream* other : std::set<Stream*>(streams))
      if (other->blocking) run_all(other);
  return finish(stream);
}
API Result cuStreamQuery(void* handle) {
  LOCK;
  if (Result r = gate()) return r;
  counts["query_stream"]++;
  Stream* stream = stream_of(handle);
  if (!known(stream)) return INVALID_HANDLE;
  run_one(stream);  // so that a loop that asks comes to an end
  if (sticky) return sticky;
  return stream->queue.empty() ? SUCCESS : NOT_READY;
}
API Result cuStreamWaitEvent(void* handle, void* e, unsigned) {
  LOCK;
  if (Result r = gate()) return r;
  Event* event = (Event*)e;
  if (!known(stream_of(handle))) return INVALID_HANDLE;
  if (!event->stream) return SUCCESS;
  Stream* other = event->stream;
  uint64_t number = event->number;
  push(stream_of(handle), "wait_event", [=] {
    if (known(other)) run_to(other, number);
  });
  return sticky;
}
API Result cuStreamGetFlags(void* handle, unsigned* flags) {
  LOCK;
  if (Result r = gate()) return r;
  *flags = stream_of(handle)->blocking ? 0 : 1;
  return SUCCESS;
}
API Result cuLaunchHostFunc(void* handle, void (*function)(void*), void* argument) {
  LOCK;
  if (Result r = gate()) return r;
  push(stream_of(handle), "host_func", [=] { function(argument); });
  return sticky;
}

API Result cuEventCreate(void** out, unsigned flags) {
  LOCK;
  if (Result r = gate()) return r;
  Event* event = new Event;
  event->timing = !(flags & 2);
  *out = event;
  return SUCCESS;
}
API Result cuEventDestroy_v2(void*) {  // kept: a queue may still name it
  LOCK;
  return gate();
}
API Result cuEventRecord(void* e, void* handle) {
  LOCK;
  if (Result r = gate()) return r;
  Event* event = (Event*)e;
  Stream* stream = stream_of(handle);
  if (!known(stream)) return INVALID_HANDLE;
  push(stream, "record", [] {});
  event->stream = stream;
  event->number = stream->queued;
  return sticky;
}
static bool has_come(Event* event) {
  return !event->stream || !known(event->stream) || event->stream->done >= event->number;
}
API Result cuEventSynchronize(void* e) {
  LOCK;
  if (Result r = gate()) return r;
  counts["sync_event"]++;
  Event* event = (Event*)e;
  if (!has_come(event)) run_to(event->stream, event->number);
  return sticky;
}
API Result cuEventQuery(void* e) {
  LOCK;
  if (Result r = gate()) return r;
  counts["query_event"]++;
  Event* event = (Event*)e;
  if (!has_come(event)) run_one(event->stream);  // so that a loop that asks comes to an end
  if (sticky) return sticky;
  return has_come(event) ? SUCCESS : NOT_READY;
}
API Result cuEventElapsedTime(float* ms, void* a, void* b) {
  LOCK;
  if (Result r = gate()) return r;
  Event *first = (Event*)a, *second = (Event*)b;
  if (!first->timing || !second->timing) return INVALID_HANDLE;
  if (!has_come(first) || !has_come(second)) return NOT_READY;
  *ms = 1.0f;  // there is no clock
  return SUCCESS;
}
