// The kernels on a GPU, as seen from outside: device addresses, sizes, the stream last.
//
// Nothing is checked here but the launches: the Python doors have done it. Everything is enqueued
// on the stream, nothing waits, nothing is allocated. `grad` is null forward; lengths may be null.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "mafsar/adapter.h"
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

// All steps, the products too: for few rows.
void adapter_cuda(Storage storage, const void* c, const AdapterWeights& weights, TokenSizes sizes,
                  int hidden, float eps, const AdapterKept& kept, void* out, CudaStream stream);
// Goes back `depth` products: 0 the last one only, 4 to the gradient behind the norm and to c.
void adapter_backward_cuda(Storage storage, const void* grad, const void* c,
                           const AdapterWeights& weights, const AdapterKept& kept, TokenSizes sizes,
                           int hidden, float eps, int depth, const AdapterScratch& scratch,
                           const AdapterGrads& grads, CudaStream stream);

struct CudaAlignment {
  bool otam;
  double lam;
  bool bidirectional;
};

void align_cuda(const CudaAlignment& how, const float* grad, const float* distances,
                const std::int64_t* lengths, std::int64_t pairs, int rows, int columns, float* out,
                CudaStream stream);

// One side of the videos: (batch, videos, frames, width); `stride` is that of its scores.
struct CudaVideos {
  const float* features;
  const std::int64_t* lengths;
  std::int64_t videos;
  int frames;
  std::int64_t stride;
};

// Forward the scores; backward the gradient of `own`, (slices, …), to be summed over the slices.
void match_cuda(const CudaAlignment& how, const float* grad, const CudaVideos& own,
                const CudaVideos& other, std::int64_t batch, int width, int slices, float* out,
                CudaStream stream);
// Blocks that `own` gives a backward pass before it is cut into slices, and its most slices.
std::int64_t match_blocks(std::int64_t batch, std::int64_t videos, int frames);
std::int64_t match_steps(std::int64_t videos, int frames);

// Shared memory of a block of the largest kernel for videos of these lengths, and the most that
// device `index` gives.
std::size_t match_shared_bytes(int rows, int columns);
std::size_t align_shared_bytes(int rows, int columns);
std::size_t shared_bytes_of_device(int index);
int multiprocessors_of_device(int index);
std::string cuda_architectures();

}  // namespace mafsar
