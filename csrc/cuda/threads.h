// The threads of a GPU for the kernel bodies of csrc/device, and how kernels are launched.
#pragma once

#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "cuda/once.h"
#include "device/team.h"
#include "mafsar/cuda.h"

namespace mafsar {

inline void check_cuda(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
  }
}

// Lets a kernel use as much shared memory as the current device gives a block. Asked for once a
// device and at its limit: a smaller size, set by a thread in between, would make a launch fail.
inline void allow_all_shared_memory(const void* kernel) {
  static OncePerDevice once;
  int index = 0;
  check_cuda(cudaGetDevice(&index), "current device");
  once.run(kernel, index, [&] {
    int most = 0;
    check_cuda(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, index),
               "shared memory of the device");
    cudaFuncAttributes own{};
    check_cuda(cudaFuncGetAttributes(&own, kernel), "shared memory of a kernel");
    check_cuda(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                    most - static_cast<int>(own.sharedSizeBytes)),
               "shared memory");
  });
}

// Loads kernels onto the current device, so that a first launch may happen within a graph's
// capture.
template <class... Kernels>
cudaError_t load_kernels(Kernels... kernels) {
  cudaError_t status = cudaSuccess;
  for (const void* kernel : {reinterpret_cast<const void*>(kernels)...}) {
    cudaFuncAttributes unused{};
    if (status == cudaSuccess) status = cudaFuncGetAttributes(&unused, kernel);
  }
  return status;
}

cudaError_t load_adapter_kernels();
cudaError_t load_match_kernels();

namespace MAFSAR_ISA {

struct DeviceThreads {
  __device__ __forceinline__ int thread() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ int threads() const { return static_cast<int>(blockDim.x); }
  __device__ __forceinline__ std::int64_t block_x() const { return blockIdx.x; }
  __device__ __forceinline__ std::int64_t block_y() const { return blockIdx.y; }
  __device__ __forceinline__ void* shared() const {
    extern __shared__ __align__(128) unsigned char mafsar_shared[];
    return mafsar_shared;
  }
  __device__ __forceinline__ void sync() const { __syncthreads(); }
  __device__ __forceinline__ void sync_warp() const { __syncwarp(); }
  __device__ __forceinline__ float sum_warp(float value) const {
    for (int mask = kWarp / 2; mask > 0; mask /= 2) {
      value += __shfl_xor_sync(0xffffffffu, value, mask);
    }
    return value;
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
  // Past the registers and the first-level cache: weights are read once by each block.
  __device__ __forceinline__ void copy16(void* to, const void* from, bool inside) const {
    const auto at = static_cast<unsigned>(__cvta_generic_to_shared(to));
    asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16, %2;\n" ::"r"(at), "l"(from),
                 "r"(inside ? 16 : 0)
                 : "memory");
  }
  __device__ __forceinline__ void commit() const {
    asm volatile("cp.async.commit_group;\n" ::: "memory");
  }
  template <int kLater>
  __device__ __forceinline__ void wait() const {
    asm volatile("cp.async.wait_group %0;\n" ::"n"(kLater) : "memory");
  }
#else
  // Compute capability 7.5 copies through registers, and is done when it returns.
  __device__ __forceinline__ void copy16(void* to, const void* from, bool inside) const {
    *static_cast<uint4*>(to) =
        inside ? *static_cast<const uint4*>(from) : make_uint4(0u, 0u, 0u, 0u);
  }
  __device__ __forceinline__ void commit() const {}
  template <int kLater>
  __device__ __forceinline__ void wait() const {}
#endif
};

constexpr std::size_t kSharedWithoutAsking = 48 * 1024;
constexpr std::int64_t kMostBlocksX = 2147483647;
constexpr std::int64_t kMostBlocksY = 65535;

// Starts kernel(job) and checks the launch, without waiting for the kernel.
template <class Job>
void start(void (*kernel)(Job), const Launch& launch, const Job& job, CudaStream stream) {
  if (launch.blocks_x == 0 || launch.blocks_y == 0) return;
  if (launch.blocks_x > kMostBlocksX || launch.blocks_y > kMostBlocksY) {
    throw std::runtime_error(
        "too many videos or rows for one launch: " + std::to_string(launch.blocks_x) + " x " +
        std::to_string(launch.blocks_y) + " blocks; pass fewer at a time");
  }
  if (launch.shared_bytes > kSharedWithoutAsking) {
    allow_all_shared_memory(reinterpret_cast<const void*>(kernel));
  }
  const dim3 grid(static_cast<unsigned>(launch.blocks_x), static_cast<unsigned>(launch.blocks_y));
  kernel<<<grid, static_cast<unsigned>(launch.threads), launch.shared_bytes,
           static_cast<cudaStream_t>(stream)>>>(job);
  check_cuda(cudaGetLastError(), "kernel launch");
}

// Calls function(Value()) with the type of the storage.
template <class Function>
void with_storage(Storage storage, const Function& function) {
  switch (storage) {
    case Storage::kFloat16:
      function(Float16{});
      return;
    case Storage::kBfloat16:
      function(Bfloat16{});
      return;
    case Storage::kFloat32:
      function(0.0f);
      return;
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
