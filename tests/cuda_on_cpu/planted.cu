// Small kernels with the mistakes that kernels have, one at a time: what the
// simulator must notice. Bug::none is right.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstring>
#include <string>

#include "cuda/launch.cuh"
#include "cuda/ptx.cuh"
#include "cuda/shared.cuh"

namespace torchconv {
namespace cuda {
namespace {

enum class Bug {
  none,
  missing_barrier, // between writing a tile and reading it
  missing_second_barrier, // between reading it and writing the next one
  tile_edge, // one element further than the tile goes
  unwritten, // the tile's last element is read but not filled
  misaligned, // a vector at an odd element
  missing_wait, // cp.async without its wait
  barrier_before_wait, // the barrier comes before the wait instead of after
  missing_syncwarp, // lanes read each other's elements without a barrier
  lane_stays_away, // one lane leaves out a shuffle
  barrier_in_branch, // half of the threads wait for the block
  fragment_row, // rows g and g + 8 of a fragment exchanged
  too_much_shared, // a view larger than the launch asked for
};

struct Params {
  Bug bug;
  const float* x;
  float* y;
  int64_t tiles;
};

constexpr int kThreads = 64;

// y = x turned around, tile by tile.
__global__ void reverse_kernel(const __grid_constant__ Params p) {
  const Bug bug = p.bug;
  const int view = bug == Bug::too_much_shared ? 2 * kThreads : kThreads;
  const Shared<float> tile(0, view);
  const int i = static_cast<int>(threadIdx.x);
  for (int64_t t = 0; t < p.tiles; ++t) {
    const float* x = p.x + t * kThreads;
    if (bug == Bug::missing_wait || bug == Bug::barrier_before_wait) {
      cp_async<4>(tile.address(i), x + i, true);
      cp_async_commit();
      if (bug == Bug::barrier_before_wait) {
        __syncthreads();
        cp_async_wait<0>();
      }
    } else if (!(bug == Bug::unwritten && i == kThreads - 1)) {
      tile.set(i, x[i]);
    }
    if (bug == Bug::barrier_in_branch) {
      if (i < kThreads / 2) {
        __syncthreads();
      } else {
        __syncwarp();
        __shfl_sync(0xffffffffu, i, 0);
        if (i == kThreads - 1) {
          return;
        }
        __syncwarp();
      }
    } else if (bug == Bug::missing_syncwarp) {
      p.y[t * kThreads + i] = tile.get(i ^ 1);
    } else if (bug == Bug::lane_stays_away) {
      if (i != 5) {
        p.y[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);
      }
      __syncthreads();
    } else if (bug != Bug::missing_barrier) {
      if (bug != Bug::barrier_before_wait) {
        __syncthreads();
      }
    }
    const int from = kThreads - 1 - i + (bug == Bug::tile_edge ? 1 : 0);
    if (bug == Bug::misaligned) {
      const float2 v = tile.get_as<float2>(i % 32 | 1);
      p.y[t * kThreads + i] = v.x;
    } else if (bug == Bug::too_much_shared) {
      p.y[t * kThreads + i] = tile.get(from + kThreads);
    } else {
      p.y[t * kThreads + i] = tile.get(from);
    }
    if (bug != Bug::missing_second_barrier) {
      __syncthreads();
    }
  }
}

// y (16 x 8) = x (16 x 16) times the 16 x 8 behind it, by one warp.
__global__ void product_kernel(const __grid_constant__ Params p) {
  const Shared<__half> a(0, 256), b(512, 128);
  const int lane = static_cast<int>(threadIdx.x);
  for (int i = lane; i < 256; i += 32) {
    a.set(i, __float2half(p.x[i]));
  }
  for (int i = lane; i < 128; i += 32) {
    b.set(i, __float2half(p.x[256 + i]));
  }
  __syncthreads();
  uint32_t fa[4], fb[2];
  const int matrix = lane / 8;
  const int down = p.bug == Bug::fragment_row ? matrix / 2 : matrix % 2;
  const int right = p.bug == Bug::fragment_row ? matrix % 2 : matrix / 2;
  ldmatrix(fa, a.address((lane % 8 + 8 * down) * 16 + 8 * right));
  ldmatrix_trans(fb, b.address(lane % 16 * 8));
  float d[4] = {0, 0, 0, 0};
  mma_m16n8k16<__half>(d, fa, fb);
  const int g = lane / 4, t = lane % 4;
  p.y[g * 8 + 2 * t] = d[0];
  p.y[g * 8 + 2 * t + 1] = d[1];
  p.y[(g + 8) * 8 + 2 * t] = d[2];
  p.y[(g + 8) * 8 + 2 * t + 1] = d[3];
}

} // namespace
} // namespace cuda
} // namespace torchconv

// Runs a kernel with one bug; the error's message goes to `message`.
extern "C" __attribute__((visibility("default"))) void planted_run(
    bool product,
    int bug,
    const float* x,
    float* y,
    int64_t tiles,
    char* message,
    int size) {
  namespace c = torchconv::cuda;
  message[0] = 0;
  const c::Params p{static_cast<c::Bug>(bug), x, y, tiles};
  try {
    if (product) {
      c::launch("product", c::product_kernel, {1, 32, 768}, {0, nullptr}, p);
    } else {
      c::launch(
          "reverse",
          c::reverse_kernel,
          {1, c::kThreads, c::kThreads * 4},
          {0, nullptr},
          p);
    }
  } catch (const std::exception& error) {
    std::strncpy(message, error.what(), static_cast<size_t>(size) - 1);
    message[size - 1] = 0;
  }
}
