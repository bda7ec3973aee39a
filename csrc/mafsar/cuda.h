// The launchers of the kernels on a GPU: device addresses and sizes, the stream last.
//
// Only the launches are checked here; mafsar.kernels checks the arguments in Python. Everything is
// enqueued on the stream: nothing waits for the device and nothing is allocated. `grad` is null in
// the forward pass; lengths may be null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mafsar/adapter.h"
#include "mafsar/alignment.h"
#include "mafsar/storage.h"

namespace mafsar {

using CudaStream = void*;

void norm_rows_cuda(Storage storage, const void* grad, const void* skip, const void* x,
                    const void* weight, const void* bias, std::int64_t rows, int width, float eps,
                    void* out, CudaStream stream);
void attend_cuda(Storage storage, const void* grad, const void* qkv, TokenSizes sizes, void* out,
                 CudaStream stream);
void gelu_cuda(Storage storage, const void* grad, const void* x, std::int64_t count, void* out,
               CudaStream stream);

// All steps in one call, matrix products included: for few rows.
void adapter_cuda(Storage storage, const void* c, const AdapterWeights& weights, TokenSizes sizes,
                  int hidden, float eps, const AdapterKept& kept, void* out, CudaStream stream);
// `depth` is the number of matrix products to go back through: 0 stops at the last product, 4 goes
// all the way to the gradient of c.
void adapter_backward_cuda(Storage storage, const void* grad, const void* c,
                           const AdapterWeights& weights, const AdapterKept& kept, TokenSizes sizes,
                           int hidden, float eps, int depth, const AdapterScratch& scratch,
                           const AdapterGrads& grads, CudaStream stream);

void align_cuda(const Alignment& how, const float* grad, const float* distances,
                const std::int64_t* lengths, std::int64_t pairs, int rows, int columns, float* out,
                CudaStream stream);

// The videos of one side, (batch, videos, frames, width); `stride` is the stride of their scores.
struct CudaVideos {
  const float* features;
  const std::int64_t* lengths;
  std::int64_t videos;
  int frames;
  std::int64_t stride;
};

// Forward, `out` holds the scores; backward, the gradient of `own`, (slices, …), which the caller
// sums over the slices.
void match_cuda(const Alignment& how, const float* grad, const CudaVideos& own,
                const CudaVideos& other, std::int64_t batch, int width, int slices, float* out,
                CudaStream stream);
// The number of blocks of a backward pass over `own` with one slice, and the most slices that a
// walk over the other side can be cut into.
std::int64_t match_blocks(std::int64_t batch, std::int64_t videos, int frames);
std::int64_t match_steps(std::int64_t videos, int frames);

// Shared memory that a block of the largest kernel needs for videos of these lengths, and the most
// that device `index` offers.
std::size_t match_shared_bytes(int rows, int columns);
std::size_t align_shared_bytes(int rows, int columns);
std::size_t shared_bytes_of_device(int index);

// Why the kernels cannot run on a device: no code for its chip, a driver older than the runtime;
// "" where they can. All kernels are then loaded.
std::string cuda_problem(int index);
// Of the driver, as 12040; 0 where there is none.
int cuda_driver_version();
// The number of devices, 0 where the driver gives none.
int cuda_devices();
int multiprocessors_of_device(int index);
std::string cuda_architectures();

}  // namespace mafsar
