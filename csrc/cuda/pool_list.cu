// Codes that may point anywhere: the gradient of adaptive and fractional max
// pooling, and max unpooling. The outputs that point at one position form a
// linked list (one integer exchange for each output, in any order); then each
// position walks its list by rising output numbers, so that the result is the
// same in every run, and adds (scatter) or takes the last one (unpool).
//
// A list is as long as the number of outputs that chose the position: up to the
// number of windows that hold it. A walk of m entries visits m^2, and m is small.
//
// Compiled for sm_80, sm_90a and PTX; it has not run on hardware yet.
#include "cuda/check.cuh"
#include "cuda/element.cuh"
#include "cuda/launch.cuh"
#include "cuda/pool_codes.cuh"
#include "cuda/pool_codes.h"

namespace torchconv {
namespace cuda {
namespace {

// Numbers of outputs inside their plane; -1 ends a list. Entries are 4 bytes,
// or 8 where planes are large.
struct Lists {
  void* heads; // for each position of the planes, row-major
  void* next; // for each output, row-major
  bool large;
};

struct Params {
  PoolCodes k;
  Lists lists;
  const void* from;
  void* to;
  bool channels_innermost;
  bool all_inside; // a code outside of its plane is an error
};

template <typename I>
__device__ void link(
    const Lists& l,
    int64_t plane,
    int64_t flat,
    int64_t in,
    int64_t o,
    int64_t out) {
  I* head = static_cast<I*>(l.heads) + plane * in + flat;
  static_cast<I*>(l.next)[plane * out + o] =
      static_cast<I>(atomicExch(head, static_cast<I>(o)));
}

__global__ void link_kernel(const __grid_constant__ Params a) {
  const PoolProblem& p = a.k.p;
  const int64_t in = pool_in_plane(p), out = pool_out_plane(p);
  const int64_t total = p.batch * p.channels * out;
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    const PoolPlace o = pool_place(i, p.channels, p.out, false);
    const int64_t code =
        read_code(a.k, code_offset(a.k, o.n, o.c, o.at[0], o.at[1], o.at[2]));
    int64_t flat, offset;
    if (!pointed_at(a.k, o, code, flat, offset)) {
      if (a.all_inside) {
        stop("Found an invalid max index: ", code);
      }
      continue;
    }
    const int64_t plane = o.n * p.channels + o.c, number = i - plane * out;
    if (a.lists.large) {
      link<unsigned long long>(a.lists, plane, flat, in, number, out);
    } else {
      link<int>(a.lists, plane, flat, in, number, out);
    }
  }
}

// Calls visit(o) for the list's outputs by rising number, or for the last one.
template <typename I, typename F>
__device__ void walk(
    const Lists& l,
    int64_t plane,
    int64_t flat,
    int64_t in,
    int64_t out,
    bool only_last,
    const F& visit) {
  const I head = static_cast<const I*>(l.heads)[plane * in + flat];
  const I* next = static_cast<const I*>(l.next) + plane * out;
  I done = -1;
  while (head >= 0) {
    I found = -1;
    for (I o = head; o >= 0; o = next[o]) {
      const bool sooner = only_last ? o > found : found < 0 || o < found;
      found = o > done && sooner ? o : found;
    }
    if (found < 0) {
      return;
    }
    visit(static_cast<int64_t>(found));
    if (only_last) {
      return;
    }
    done = found;
  }
}

template <typename T, typename A, bool kLast>
__global__ void walk_kernel(const __grid_constant__ Params a) {
  const PoolProblem& p = a.k.p;
  const int64_t in = pool_in_plane(p), out = pool_out_plane(p);
  const int64_t total = p.batch * p.channels * in;
  for (int64_t i = first_piece(); i < total; i += piece_step()) {
    const PoolPlace x = pool_place(i, p.channels, p.in, a.channels_innermost);
    const int64_t plane = x.n * p.channels + x.c;
    const int64_t flat = (x.at[0] * p.in[1] + x.at[1]) * p.in[2] + x.at[2];
    const T* from = static_cast<const T*>(a.from);
    A sum = 0;
    const auto visit = [&](int64_t o) {
      const int64_t w = take(o, p.out[2]);
      const int64_t h = take(o, p.out[1]);
      const T v = from[y_offset(p, x.n, x.c, o, h, w)];
      if constexpr (kLast) {
        sum = v;
      } else {
        sum += widened(v);
      }
    };
    if (a.lists.large) {
      walk<int64_t>(a.lists, plane, flat, in, out, kLast, visit);
    } else {
      walk<int>(a.lists, plane, flat, in, out, kLast, visit);
    }
    T* to = static_cast<T*>(a.to) +
        x_offset(p, x.n, x.c, x.at[0], x.at[1], x.at[2]);
    if constexpr (kLast) {
      *to = sum;
    } else {
      *to = narrowed<T>(sum);
    }
  }
}

int64_t entry_bytes(const PoolCodes& k) {
  return pool_out_plane(k.p) < (int64_t{1} << 31) ? 4 : 8;
}

// Empty lists, then every output's entry.
Params linked(
    const PoolCodes& k,
    const void* from,
    void* to,
    void* workspace,
    bool all_inside,
    const Queue& queue) {
  const PoolProblem& p = k.p;
  const int64_t planes = p.batch * p.channels, entry = entry_bytes(k);
  const int64_t heads = planes * pool_in_plane(p) * entry;
  const Params a{
      k,
      {workspace, static_cast<char*>(workspace) + heads, entry == 8},
      from,
      to,
      channels_first_in_memory(p.x_stride_c, p.channels),
      all_inside};
  if (heads > 0) {
    const DeviceGuard guard(queue.device);
    check(
        cudaMemsetAsync(
            workspace,
            0xff,
            static_cast<size_t>(heads),
            static_cast<cudaStream_t>(queue.stream)),
        "cudaMemsetAsync");
  }
  launch(
      "pool_list",
      link_kernel,
      {pool_blocks(planes * pool_out_plane(p)), kPoolThreads},
      queue,
      a);
  return a;
}

int64_t walk_blocks(const PoolProblem& p) {
  return pool_blocks(p.batch * p.channels * pool_in_plane(p));
}

} // namespace

int64_t list_workspace(const PoolCodes& k) {
  const PoolProblem& p = k.p;
  return p.batch * p.channels * (pool_in_plane(p) + pool_out_plane(p)) *
      entry_bytes(k);
}

int64_t unpool_workspace(const PoolCodes& k) {
  return list_workspace(k);
}

void scatter_by_list(
    const PoolCodes& k,
    const void* grad,
    void* gx,
    void* workspace,
    const Queue& queue) {
  const Params a = linked(k, grad, gx, workspace, false, queue);
  with_floating(k.p.dtype, "pool_scatter", [&](auto element) {
    using T = typename decltype(element)::type;
    launch(
        "pool_scatter",
        walk_kernel<T, compute_t<T>, false>,
        {walk_blocks(k.p), kPoolThreads},
        queue,
        a);
  });
}

void max_unpool(
    const PoolCodes& k,
    const void* x,
    void* out,
    void* workspace,
    const Queue& queue) {
  const Params a = linked(k, x, out, workspace, true, queue);
  with_bits(dtype_size(k.p.dtype), [&](auto element) {
    using T = typename decltype(element)::type;
    launch(
        "max_unpool",
        walk_kernel<T, T, true>,
        {walk_blocks(k.p), kPoolThreads},
        queue,
        a);
  });
}

} // namespace cuda
} // namespace torchconv
