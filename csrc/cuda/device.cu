// What the devices of this machine are and whether the kernels run on them.
#include "cuda/threads.h"

namespace mafsar {

namespace {

// Makes a device current, and lets calls through that a graph's capture in this thread would
// refuse.
class OnDevice {
 public:
  explicit OnDevice(int index) {
    cudaThreadExchangeStreamCaptureMode(&mode_);
    status_ = cudaGetDevice(&before_);
    if (status_ == cudaSuccess && before_ != index) status_ = cudaSetDevice(index);
  }
  ~OnDevice() {
    if (before_ >= 0) cudaSetDevice(before_);
    cudaThreadExchangeStreamCaptureMode(&mode_);
    cudaGetLastError();  // clears it: a later launch must not report it
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  cudaError_t status() const { return status_; }

 private:
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
  int before_ = -1;
  cudaError_t status_ = cudaSuccess;
};

}  // namespace

std::string cuda_problem(int index) {
  const OnDevice on(index);
  cudaError_t status = on.status();
  if (status == cudaSuccess) status = load_match_kernels();
  if (status == cudaSuccess) status = load_adapter_kernels();
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
