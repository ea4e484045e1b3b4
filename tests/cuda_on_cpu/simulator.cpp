#include "simulator.h"

#include <cstring>
#include <memory>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "fiber.h"

namespace cuda_on_cpu {

Place here;

namespace {

// What a fault throws, from the stack of the fiber to its entry.
struct Fault {
  std::string what;
};

// -- the shadow of shared memory -----------------------------------------------

constexpr int kCell = 2; // bytes with a shadow of their own

// An access that a later one may conflict with. Numbers of barriers count on
// from block to block, so that nothing is to be cleared between them.
struct Access {
  uint32_t barrier = 0; // block barriers so far
  uint32_t warp_barrier = 0; // the warp's, so far
  int16_t thread = -1;
};

struct Cell {
  Access write;
  Access read[2]; // by different threads, of different warps where possible
  int16_t pending = -1; // the thread whose cp.async has yet to arrive
};

// -- threads ----------------------------------------------------------------------

enum class State : int8_t { ready, at_block_barrier, at_warp, returned };

struct Copy {
  int64_t offset;
  int bytes;
  int group;
  unsigned char data[16];
};

struct Thread {
  State state;
  Fiber* fiber; // null until it starts
  dim3 place;
  std::vector<Copy> copies;
  int group; // of cp.async, that the next copies belong to
};

struct Warp {
  unsigned waiting; // lanes inside warp_together
  unsigned mask;
  const char* what;
  void* payloads[kWarp];
  uint32_t barrier;
};

struct Simulator {
  std::mutex mutex; // one grid at a time
  Thread threads[kMaxThreads];
  Warp warps[kMaxThreads / kWarp];
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> idle; // fibers without a thread
  int count = 0; // threads of the block
  int current = -1;
  int left = 0; // threads that have not returned
  int at_barrier = 0;
  bool reversed = false;
  int64_t launches = 0;
  bool failed = false;
  std::string error;
  void (*body)(const void*) = nullptr;
  const void* argument = nullptr;

  alignas(128) unsigned char shared[kMaxShared];
  Cell cells[kMaxShared / kCell];
  int64_t shared_bytes = 0;
  uint32_t barrier = 1;
  uint32_t block_begin = 1; // the barrier number the block started with
  uint32_t warp_barriers = 1;
};

Simulator& sim() {
  static Simulator* const it = new Simulator;
  return *it;
}

std::string place_of(const dim3& p, const dim3& size) {
  std::ostringstream text;
  text << p.x;
  if (size.y * size.z > 1) {
    text << "," << p.y << "," << p.z;
  }
  return text.str();
}

std::string thread_name(int number) {
  return place_of(sim().threads[number].place, here.block_size);
}

void wake_block() {
  Simulator& s = sim();
  for (int i = 0; i < s.count; ++i) {
    if (s.threads[i].state == State::at_block_barrier) {
      s.threads[i].state = State::ready;
    }
  }
  s.at_barrier = 0;
  ++s.barrier;
}

void pause(State state) {
  Simulator& s = sim();
  Thread& t = s.threads[s.current];
  t.state = state;
  t.fiber->leave();
}

// A fiber runs one thread of the block after the other.
void fiber_main() {
  Simulator& s = sim();
  for (;;) {
    try {
      s.body(s.argument);
    } catch (const Fault& fault) {
      s.failed = true;
      s.error = fault.what;
    } catch (const std::exception& error) {
      s.failed = true;
      s.error = error.what();
    }
    Thread& t = s.threads[s.current];
    t.state = State::returned;
    --s.left;
    if (!s.failed && s.left > 0 && s.at_barrier == s.left) {
      wake_block();
    }
    t.fiber->leave();
  }
}

void run_thread(int number) {
  Simulator& s = sim();
  Thread& t = s.threads[number];
  if (t.fiber == nullptr) {
    if (s.idle.empty()) {
      s.fibers.push_back(std::make_unique<Fiber>());
      s.fibers.back()->reset(fiber_main);
      s.idle.push_back(s.fibers.back().get());
    }
    t.fiber = s.idle.back();
    s.idle.pop_back();
  }
  s.current = number;
  here.thread = t.place;
  t.fiber->enter();
  if (t.state == State::returned) {
    s.idle.push_back(t.fiber);
    t.fiber = nullptr;
  }
}

void report_deadlock() {
  Simulator& s = sim();
  std::ostringstream text;
  text << "block " << place_of(here.block, here.grid_size) << ": ";
  int block_waits = -1, warp_waits = -1;
  for (int i = 0; i < s.count; ++i) {
    if (s.threads[i].state == State::at_block_barrier && block_waits < 0) {
      block_waits = i;
    }
    if (s.threads[i].state == State::at_warp && warp_waits < 0) {
      warp_waits = i;
    }
  }
  text << "deadlock: thread " << thread_name(warp_waits) << " waits in "
       << s.warps[warp_waits / kWarp].what << " for lanes of its warp";
  if (block_waits >= 0) {
    text << ", thread " << thread_name(block_waits) << " at __syncthreads";
  } else {
    text << " that have returned";
  }
  s.failed = true;
  s.error = text.str();
}

void run_block() {
  Simulator& s = sim();
  s.left = s.count;
  s.at_barrier = 0;
  s.block_begin = ++s.barrier;
  for (int i = 0; i < s.count; ++i) {
    Thread& t = s.threads[i];
    const unsigned n = static_cast<unsigned>(i);
    t.state = State::ready;
    t.fiber = nullptr;
    t.place = dim3(
        n % here.block_size.x,
        n / here.block_size.x % here.block_size.y,
        n / (here.block_size.x * here.block_size.y));
    t.copies.clear();
    t.group = 0;
  }
  for (int w = 0; w * kWarp < s.count; ++w) {
    s.warps[w] = Warp{};
    s.warps[w].barrier = ++s.warp_barriers;
  }
  while (s.left > 0) {
    bool moved = false;
    for (int j = 0; j < s.count && !s.failed; ++j) {
      const int i = s.reversed ? s.count - 1 - j : j;
      if (s.threads[i].state == State::ready) {
        moved = true;
        run_thread(i);
      }
    }
    if (!moved && !s.failed) {
      report_deadlock();
    }
    if (s.failed) {
      return;
    }
  }
}

// -- checks ---------------------------------------------------------------------------

bool unordered(const Access& a, int thread) {
  const Simulator& s = sim();
  return a.thread >= 0 && a.thread != thread && a.barrier == s.barrier &&
      (a.thread / kWarp != thread / kWarp ||
       a.warp_barrier == s.warps[thread / kWarp].barrier);
}

Access access_by(int thread) {
  const Simulator& s = sim();
  return {
      s.barrier, s.warps[thread / kWarp].barrier, static_cast<int16_t>(thread)};
}

std::string bytes_at(int64_t offset, int bytes) {
  std::ostringstream text;
  text << "shared memory, bytes " << offset << " to " << offset + bytes;
  return text.str();
}

void check_range(int64_t offset, int bytes, const char* what) {
  const Simulator& s = sim();
  if (offset < 0 || offset + bytes > s.shared_bytes) {
    std::ostringstream text;
    text << what << " outside of " << bytes_at(offset, bytes) << " of "
         << s.shared_bytes;
    fail(text.str());
  }
  if (offset % bytes != 0) {
    fail(
        std::string(what) + " of " + bytes_at(offset, bytes) +
        ", which is not aligned");
  }
  if (bytes % kCell != 0) {
    fail("shared memory is checked in units of 2 bytes");
  }
}

void conflict(
    const char* mine,
    const char* theirs,
    const Access& other,
    int64_t offset,
    int bytes) {
  std::string text = std::string(mine) + " of " + bytes_at(offset, bytes) +
      ", which thread " + thread_name(other.thread) + " " + theirs +
      " with no barrier between";
  fail(text);
}

void note_read(int64_t offset, int bytes, int thread) {
  Simulator& s = sim();
  const Access mine = access_by(thread);
  for (int64_t c = offset / kCell; c < (offset + bytes) / kCell; ++c) {
    Cell& cell = s.cells[c];
    if (cell.pending >= 0 && cell.write.barrier >= s.block_begin) {
      fail(
          "read of " + bytes_at(offset, bytes) +
          ", whose cp.async no cp_async_wait has waited for");
    }
    if (cell.write.barrier < s.block_begin) {
      fail("read of " + bytes_at(offset, bytes) + ", which nobody has written");
    }
    if (unordered(cell.write, thread)) {
      conflict("read", "wrote", cell.write, offset, bytes);
    }
    Access* slot = cell.read;
    if (slot[0].thread == thread || !unordered(slot[0], thread)) {
      // the first slot is the thread's own, or of no use to it; it may still
      // matter to others, so it moves to the second
      if (slot[0].thread != thread && slot[0].barrier == s.barrier) {
        slot[1] = slot[0];
      }
      slot[0] = mine;
    } else if (
        slot[1].barrier != s.barrier || slot[1].thread == thread ||
        slot[1].thread / kWarp == slot[0].thread / kWarp) {
      slot[1] = mine;
    }
  }
}

enum class Write { now, pending, arriving };

void note_write(int64_t offset, int bytes, Write kind) {
  Simulator& s = sim();
  const int thread = s.current;
  const Access mine = access_by(thread);
  for (int64_t c = offset / kCell; c < (offset + bytes) / kCell; ++c) {
    Cell& cell = s.cells[c];
    const bool current = cell.write.barrier >= s.block_begin;
    if (current && cell.pending >= 0 && kind != Write::arriving) {
      fail(
          "write of " + bytes_at(offset, bytes) +
          ", whose cp.async no cp_async_wait has waited for");
    }
    if (unordered(cell.write, thread)) {
      conflict("write", "wrote", cell.write, offset, bytes);
    }
    for (const Access& r : cell.read) {
      if (unordered(r, thread)) {
        conflict("write", "read", r, offset, bytes);
      }
    }
    cell.write = mine;
    cell.pending = static_cast<int16_t>(kind == Write::pending ? thread : -1);
  }
}

} // namespace

void fail(const std::string& what) {
  const Simulator& s = sim();
  throw Fault{
      "block " + place_of(here.block, here.grid_size) + ", thread " +
      thread_name(s.current) + ": " + what};
}

const std::string& last_error() {
  return sim().error;
}

int64_t launches() {
  return sim().launches;
}

void set_reversed(bool reversed) {
  sim().reversed = reversed;
}

bool launch(
    dim3 grid,
    dim3 block,
    size_t shared_bytes,
    void (*body)(const void*),
    const void* argument) {
  Simulator& s = sim();
  const std::lock_guard<std::mutex> lock(s.mutex);
  const int64_t threads = int64_t{block.x} * block.y * block.z;
  std::ostringstream refusal;
  if (threads < 1 || threads > kMaxThreads || block.z > 64) {
    refusal << "a block of " << threads << " threads";
  } else if (
      grid.x < 1 || grid.x > 0x7fffffffu || grid.y < 1 || grid.y > 65535 ||
      grid.z < 1 || grid.z > 65535) {
    refusal << "a grid of " << grid.x << " x " << grid.y << " x " << grid.z;
  } else if (shared_bytes > static_cast<size_t>(kMaxShared)) {
    refusal << shared_bytes << " bytes of shared memory";
  }
  if (!refusal.str().empty()) {
    s.error = "invalid configuration: " + refusal.str();
    return false;
  }
  ++s.launches;
  s.failed = false;
  s.error.clear();
  s.count = static_cast<int>(threads);
  s.body = body;
  s.argument = argument;
  s.shared_bytes = static_cast<int64_t>(shared_bytes);
  here.block_size = block;
  here.grid_size = grid;
  const int64_t blocks = int64_t{grid.x} * grid.y * grid.z;
  for (int64_t j = 0; j < blocks && !s.failed; ++j) {
    const int64_t b = s.reversed ? blocks - 1 - j : j;
    here.block = dim3(
        static_cast<unsigned>(b % grid.x),
        static_cast<unsigned>(b / grid.x % grid.y),
        static_cast<unsigned>(b / grid.x / grid.y));
    run_block();
  }
  if (s.failed) { // the fibers of unfinished threads start afresh
    s.idle.clear();
    for (const auto& fiber : s.fibers) {
      fiber->reset(fiber_main);
      s.idle.push_back(fiber.get());
    }
  }
  s.current = -1;
  return !s.failed;
}

void block_barrier() {
  Simulator& s = sim();
  if (++s.at_barrier == s.left) {
    wake_block();
    return;
  }
  pause(State::at_block_barrier);
}

void warp_together(
    unsigned mask,
    const char* what,
    void* payload,
    WarpAction act) {
  Simulator& s = sim();
  const int number = s.current, base = number / kWarp * kWarp;
  Warp& warp = s.warps[number / kWarp];
  const unsigned bit = 1u << (number - base);
  if ((mask & bit) == 0) {
    fail(std::string(what) + ": the thread is not in its mask");
  }
  // Lanes that the block does not have cannot take part.
  const int lanes = s.count - base < kWarp ? s.count - base : kWarp;
  const unsigned existing = lanes == kWarp ? kFullWarp : (1u << lanes) - 1;
  if ((mask & ~existing) != 0 && mask != kFullWarp) {
    fail(std::string(what) + ": the mask names lanes that do not exist");
  }
  mask &= existing;
  if (warp.waiting == 0) {
    warp.mask = mask;
    warp.what = what;
    std::memset(warp.payloads, 0, sizeof(warp.payloads));
  } else if (warp.mask != mask || std::strcmp(warp.what, what) != 0) {
    fail(
        std::string("the warp's lanes have parted: this one is in ") + what +
        ", others wait in " + warp.what);
  }
  warp.waiting |= bit;
  warp.payloads[number - base] = payload;
  if (warp.waiting != mask) {
    pause(State::at_warp);
    return;
  }
  if (act != nullptr) {
    act(warp.payloads);
  }
  warp.waiting = 0;
  for (int i = 0; i < lanes; ++i) {
    if ((mask >> i & 1u) != 0 && base + i != number) {
      s.threads[base + i].state = State::ready;
    }
  }
}

void warp_barrier(unsigned mask) {
  warp_together(mask, "__syncwarp", nullptr, [](void* const*) {
    Simulator& s = sim();
    s.warps[s.current / kWarp].barrier = ++s.warp_barriers;
  });
}

void shared_read(int64_t offset, int bytes, void* to, int by) {
  Simulator& s = sim();
  const int thread = by < 0 ? s.current : s.current / kWarp * kWarp + by;
  check_range(offset, bytes, "read");
  note_read(offset, bytes, thread);
  std::memcpy(to, s.shared + offset, static_cast<size_t>(bytes));
}

void shared_write(int64_t offset, int bytes, const void* from) {
  Simulator& s = sim();
  check_range(offset, bytes, "write");
  note_write(offset, bytes, Write::now);
  std::memcpy(s.shared + offset, from, static_cast<size_t>(bytes));
}

void async_copy(int64_t offset, int bytes, const void* from, bool inside) {
  Simulator& s = sim();
  Thread& t = s.threads[s.current];
  check_range(offset, bytes, "cp.async");
  if (inside && reinterpret_cast<std::uintptr_t>(from) % bytes != 0) {
    fail("cp.async from global memory that is not aligned");
  }
  note_write(offset, bytes, Write::pending);
  Copy copy{offset, bytes, t.group, {}};
  if (inside) {
    std::memcpy(copy.data, from, static_cast<size_t>(bytes));
  }
  t.copies.push_back(copy);
}

void async_commit() {
  Simulator& s = sim();
  ++s.threads[s.current].group;
}

void async_wait(int groups_left) {
  Simulator& s = sim();
  Thread& t = s.threads[s.current];
  const int done = t.group - groups_left; // groups before this one
  size_t kept = 0;
  for (size_t i = 0; i < t.copies.size(); ++i) {
    Copy& copy = t.copies[i];
    if (copy.group < done) {
      note_write(copy.offset, copy.bytes, Write::arriving);
      std::memcpy(
          s.shared + copy.offset, copy.data, static_cast<size_t>(copy.bytes));
    } else {
      t.copies[kept++] = copy;
    }
  }
  t.copies.resize(kept);
}

} // namespace cuda_on_cpu
