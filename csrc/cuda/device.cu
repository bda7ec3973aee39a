// What the devices of this machine are and whether the kernels run on them.
#include <thread>

#include "cuda/threads.h"

namespace mafsar {

std::string cuda_problem(int index) {
  cudaError_t status = cudaSuccess;
  // In a thread of its own: the caller's device stays current without being set again, which would
  // create a context on a GPU that is not used.
  std::thread([&] {
    // Lets calls through that a graph's capture would refuse.
    cudaStreamCaptureMode mode = cudaStreamCaptureModeRelaxed;
    cudaThreadExchangeStreamCaptureMode(&mode);
    status = cudaSetDevice(index);
    if (status == cudaSuccess) status = load_match_kernels();
    if (status == cudaSuccess) status = load_adapter_kernels();
  }).join();
  return status == cudaSuccess ? std::string() : std::string(cudaGetErrorString(status));
}

int cuda_driver_version() {
  int version = 0;
  return cudaDriverGetVersion(&version) == cudaSuccess ? version : 0;
}

int cuda_devices() {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  cudaGetLastError();
  return status == cudaSuccess ? count : 0;
}

std::size_t shared_bytes_of_device(int index) {
  int bytes = 0;
  check_cuda(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, index),
             "shared memory of the device");
  return static_cast<std::size_t>(bytes);
}

int multiprocessors_of_device(int index) {
  int count = 0;
  check_cuda(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, index),
             "multiprocessors of the device");
  return count;
}

std::string cuda_architectures() { return MAFSAR_CUDA_ARCHITECTURES; }

}  // namespace mafsar
