// Launchers of the alignment of pairs of clips, from distances or from features. A thread works on
// one pair, a block on as many as fit its shared memory (csrc/device/align.h, match.h,
// match_backward.h). Distances computed from features never leave the chip.
#include "cuda/threads.h"
#include "device/match_backward.h"

namespace mafsar {

using namespace portable;

template <bool kBackward>
__global__ void __launch_bounds__(kAlignThreads) align_kernel(AlignJob job) {
  align_body<kBackward>(DeviceThreads{}, job);
}

__global__ void __launch_bounds__(kMatchThreads) match_kernel(MatchJob job) {
  match_body(DeviceThreads{}, job);
}

__global__ void __launch_bounds__(kMatchThreads) match_backward_kernel(MatchJob job) {
  match_backward_body(DeviceThreads{}, job);
}

namespace {

MatchSide side(const CudaVideos& videos) {
  return {videos.features, videos.lengths, videos.videos, videos.frames, videos.stride};
}

}  // namespace

cudaError_t load_match_kernels() {
  cudaError_t status = load_kernels(align_kernel<false>, align_kernel<true>);
  if (status == cudaSuccess) status = load_kernels(match_kernel, match_backward_kernel);
  return status;
}

void align_cuda(const Alignment& how, const float* grad, const float* distances,
                const std::int64_t* lengths, std::int64_t pairs, int rows, int columns, float* out,
                CudaStream stream) {
  const AlignJob job{distances, lengths, grad, out, pairs, rows, columns, how};
  start(grad ? align_kernel<true> : align_kernel<false>, launch_of(job, grad != nullptr), job,
        stream);
}

void match_cuda(const Alignment& how, const float* grad, const CudaVideos& own,
                const CudaVideos& other, std::int64_t batch, int width, int slices, float* out,
                CudaStream stream) {
  const MatchJob job{side(own), side(other), batch, width, how, grad, out, slices};
  start(grad ? match_backward_kernel : match_kernel, launch_of(job, grad != nullptr), job, stream);
}

std::int64_t match_blocks(std::int64_t batch, std::int64_t videos, int frames) {
  return batch *
         parts_of(videos, videos_in_tile({nullptr, nullptr, videos, frames, 1}, kOwnFrames));
}

std::int64_t match_steps(std::int64_t videos, int frames) {
  return parts_of(videos, videos_in_tile({nullptr, nullptr, videos, frames, 1}, kSide));
}

std::size_t match_shared_bytes(int rows, int columns) {
  std::size_t most = 0;
  for (const bool swapped : {false, true}) {
    MatchJob job{};
    job.rows.frames = swapped ? columns : rows;
    job.columns.frames = swapped ? rows : columns;
    job.slices = 1;
    const std::size_t bytes = launch_of(job, true).shared_bytes;
    if (bytes > most) most = bytes;
  }
  return most;
}

std::size_t align_shared_bytes(int rows, int columns) {
  AlignJob job{};
  job.rows = rows;
  job.columns = columns;
  return launch_of(job, true).shared_bytes;
}

}  // namespace mafsar
