// The only file that knows Python. Each binding takes addresses and sizes that mafsar.kernels has
// checked, releases the interpreter lock, and calls a launcher of csrc/mafsar.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "mafsar/adapter.h"
#include "mafsar/matching.h"
#if defined(MAFSAR_WITH_CUDA)
#include "mafsar/cuda.h"
#endif

namespace py = pybind11;
using Address = std::uintptr_t;
using Release = py::call_guard<py::gil_scoped_release>;

namespace {

const float* floats(Address at) { return reinterpret_cast<const float*>(at); }
float* writable(Address at) { return reinterpret_cast<float*>(at); }
const std::int64_t* whole(Address at) { return reinterpret_cast<const std::int64_t*>(at); }

// The metric of a name; every binding that takes one goes through here.
mafsar::Metric metric_of(const std::string& name) {
  if (name == "otam") return mafsar::Metric::kOtam;
  if (name == "bimhm") return mafsar::Metric::kBimhm;
  throw std::invalid_argument("metric must be one of otam, bimhm, got '" + name + "'");
}

void align_forward(const std::string& metric, Address distances, Address lengths,
                   std::int64_t pairs, int rows, int columns, double lam, bool bidirectional,
                   Address out) {
  mafsar::align_cpu({metric_of(metric), lam, bidirectional}, floats(distances), whole(lengths),
                    {pairs, rows, columns}, writable(out));
}

void align_backward(const std::string& metric, Address grad, Address distances, Address lengths,
                    std::int64_t pairs, int rows, int columns, double lam, bool bidirectional,
                    Address out) {
  mafsar::align_backward_cpu({metric_of(metric), lam, bidirectional}, floats(grad),
                             floats(distances), whole(lengths), {pairs, rows, columns},
                             writable(out));
}

void match_forward(const std::string& metric, Address query, Address prototypes,
                   Address query_lengths, Address prototype_lengths, std::int64_t batch,
                   std::int64_t queries, std::int64_t classes, int rows, int columns, int width,
                   double lam, Address scores) {
  const mafsar::Features features{floats(query), floats(prototypes), whole(query_lengths),
                                  whole(prototype_lengths)};
  mafsar::match_cpu({metric_of(metric), lam, true}, features,
                    {batch, queries, classes, rows, columns, width}, writable(scores));
}

void match_backward(const std::string& metric, Address grad, Address query, Address prototypes,
                    Address query_lengths, Address prototype_lengths, std::int64_t batch,
                    std::int64_t queries, std::int64_t classes, int rows, int columns, int width,
                    double lam, Address grad_query, Address grad_prototypes) {
  const mafsar::Features features{floats(query), floats(prototypes), whole(query_lengths),
                                  whole(prototype_lengths)};
  mafsar::match_backward_cpu({metric_of(metric), lam, true}, floats(grad), features,
                             {batch, queries, classes, rows, columns, width}, writable(grad_query),
                             writable(grad_prototypes));
}

void windows_forward(const std::string& metric, Address features, Address prototypes, Address mean,
                     float floor, float appearance, float change, std::int64_t windows, int classes,
                     int frames, int columns, int width, double lam, Address scores) {
  mafsar::windows_cpu({metric_of(metric), lam, true}, {floats(mean), floor, appearance, change},
                      reinterpret_cast<const std::uint16_t*>(features), floats(prototypes),
                      {windows, classes, frames, columns, width}, writable(scores));
}

void norm_forward(Address x, Address weight, Address bias, std::int64_t clips, int frames,
                  int heads, int width, float eps, Address normed) {
  mafsar::norm_rows_cpu(floats(x), floats(weight), floats(bias), {clips, frames, heads, width}, eps,
                        writable(normed));
}

void norm_backward(Address grad, Address skip, Address x, Address weight, std::int64_t clips,
                   int frames, int heads, int width, float eps, Address out) {
  mafsar::norm_rows_backward_cpu(floats(grad), floats(skip), floats(x), floats(weight),
                                 {clips, frames, heads, width}, eps, writable(out));
}

void attend_forward(Address qkv, std::int64_t clips, int frames, int heads, int width,
                    Address mixed) {
  mafsar::attend_cpu(floats(qkv), {clips, frames, heads, width}, writable(mixed));
}

void attend_backward(Address grad, Address qkv, std::int64_t clips, int frames, int heads,
                     int width, Address grad_qkv) {
  mafsar::attend_backward_cpu(floats(grad), floats(qkv), {clips, frames, heads, width},
                              writable(grad_qkv));
}

void gelu_forward(Address x, std::int64_t count, Address out) {
  mafsar::gelu_cpu(floats(x), count, writable(out));
}

void gelu_backward(Address grad, Address x, std::int64_t count, Address grad_x) {
  mafsar::gelu_backward_cpu(floats(grad), floats(x), count, writable(grad_x));
}

// Addresses of several arrays in the order of a struct of pointers.
template <class Pointers>
Pointers pointers(const std::vector<Address>& addresses) {
  Pointers all;
  static_assert(sizeof all % sizeof(void*) == 0, "a struct of pointers only");
  if (addresses.size() != sizeof all / sizeof(void*)) {
    throw std::invalid_argument("expected " + std::to_string(sizeof all / sizeof(void*)) +
                                " addresses, got " + std::to_string(addresses.size()));
  };
  std::memcpy(&all, addresses.data(), sizeof all);
  return all;
}

void adapter_forward(Address c, const std::vector<Address>& weights, std::int64_t clips, int frames,
                     int heads, int width, int hidden, float eps, const std::vector<Address>& kept,
                     Address out) {
  mafsar::adapter_cpu(floats(c), pointers<mafsar::AdapterWeights>(weights),
                      {clips, frames, heads, width}, hidden, eps,
                      pointers<mafsar::AdapterKept>(kept), writable(out));
}

void adapter_backward(Address grad, Address c, const std::vector<Address>& weights,
                      const std::vector<Address>& kept, std::int64_t clips, int frames, int heads,
                      int width, int hidden, float eps, int depth,
                      const std::vector<Address>& scratch, const std::vector<Address>& grads) {
  mafsar::adapter_backward_cpu(floats(grad), floats(c), pointers<mafsar::AdapterWeights>(weights),
                               pointers<mafsar::AdapterKept>(kept), {clips, frames, heads, width},
                               hidden, eps, depth, pointers<mafsar::AdapterScratch>(scratch),
                               pointers<mafsar::AdapterGrads>(grads));
}

#if defined(MAFSAR_WITH_CUDA)
void* device(Address at) { return reinterpret_cast<void*>(at); }

void cuda_norm(int storage, Address grad, Address skip, Address x, Address weight, Address bias,
               std::int64_t rows, int width, float eps, Address out, Address stream) {
  mafsar::norm_rows_cuda(static_cast<mafsar::Storage>(storage), device(grad), device(skip),
                         device(x), device(weight), device(bias), rows, width, eps, device(out),
                         device(stream));
}

void cuda_attend(int storage, Address grad, Address qkv, std::int64_t clips, int frames, int heads,
                 int width, Address out, Address stream) {
  mafsar::attend_cuda(static_cast<mafsar::Storage>(storage), device(grad), device(qkv),
                      {clips, frames, heads, width}, device(out), device(stream));
}

void cuda_gelu(int storage, Address grad, Address x, std::int64_t count, Address out,
               Address stream) {
  mafsar::gelu_cuda(static_cast<mafsar::Storage>(storage), device(grad), device(x), count,
                    device(out), device(stream));
}

void cuda_adapter_forward(int storage, Address c, const std::vector<Address>& weights,
                          std::int64_t clips, int frames, int heads, int width, int hidden,
                          float eps, const std::vector<Address>& kept, Address out,
                          Address stream) {
  mafsar::adapter_cuda(static_cast<mafsar::Storage>(storage), device(c),
                       pointers<mafsar::AdapterWeights>(weights), {clips, frames, heads, width},
                       hidden, eps, pointers<mafsar::AdapterKept>(kept), device(out),
                       device(stream));
}

void cuda_adapter_backward(int storage, Address grad, Address c,
                           const std::vector<Address>& weights, const std::vector<Address>& kept,
                           std::int64_t clips, int frames, int heads, int width, int hidden,
                           float eps, int depth, const std::vector<Address>& scratch,
                           const std::vector<Address>& grads, Address stream) {
  mafsar::adapter_backward_cuda(static_cast<mafsar::Storage>(storage), device(grad), device(c),
                                pointers<mafsar::AdapterWeights>(weights),
                                pointers<mafsar::AdapterKept>(kept), {clips, frames, heads, width},
                                hidden, eps, depth, pointers<mafsar::AdapterScratch>(scratch),
                                pointers<mafsar::AdapterGrads>(grads), device(stream));
}

void cuda_align(const std::string& metric, Address grad, Address distances, Address lengths,
                std::int64_t pairs, int rows, int columns, double lam, bool bidirectional,
                Address out, Address stream) {
  mafsar::align_cuda({metric_of(metric), lam, bidirectional}, floats(grad), floats(distances),
                     whole(lengths), pairs, rows, columns, writable(out), device(stream));
}

void cuda_match(const std::string& metric, Address grad, Address own, Address other,
                Address own_lengths, Address other_lengths, std::int64_t batch,
                std::int64_t own_videos, std::int64_t other_videos, int own_frames,
                int other_frames, int width, std::int64_t own_stride, std::int64_t other_stride,
                double lam, int slices, Address out, Address stream) {
  mafsar::match_cuda(
      {metric_of(metric), lam, true}, floats(grad),
      {floats(own), whole(own_lengths), own_videos, own_frames, own_stride},
      {floats(other), whole(other_lengths), other_videos, other_frames, other_stride}, batch, width,
      slices, writable(out), device(stream));
}
#endif

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() =
      "Native kernels of mafsar. Call them through mafsar.kernels, which checks the arguments.";
  m.def("align_forward", align_forward, Release());
  m.def("align_backward", align_backward, Release());
  m.def("match_forward", match_forward, Release());
  m.def("windows_forward", windows_forward, Release());
  m.def("match_backward", match_backward, Release());
  m.def("norm_forward", norm_forward, Release());
  m.def("norm_backward", norm_backward, Release());
  m.def("attend_forward", attend_forward, Release());
  m.def("attend_backward", attend_backward, Release());
  m.def("gelu_forward", gelu_forward, Release());
  m.def("gelu_backward", gelu_backward, Release());
  m.def("adapter_forward", adapter_forward, Release());
  m.def("adapter_backward", adapter_backward, Release());
#if defined(MAFSAR_WITH_CUDA)
  m.def("cuda_norm", cuda_norm, Release());
  m.def("cuda_attend", cuda_attend, Release());
  m.def("cuda_gelu", cuda_gelu, Release());
  m.def("cuda_adapter_forward", cuda_adapter_forward, Release());
  m.def("cuda_adapter_backward", cuda_adapter_backward, Release());
  m.def("cuda_align", cuda_align, Release());
  m.def("cuda_match", cuda_match, Release());
  m.def("cuda_match_blocks", mafsar::match_blocks);
  m.def("cuda_match_steps", mafsar::match_steps);
  m.def("cuda_match_shared_bytes", mafsar::match_shared_bytes);
  m.def("cuda_align_shared_bytes", mafsar::align_shared_bytes);
  m.def("cuda_shared_bytes_of_device", mafsar::shared_bytes_of_device);
  m.def("cuda_multiprocessors_of_device", mafsar::multiprocessors_of_device);
  m.def("cuda_problem", mafsar::cuda_problem, Release());
  m.def("cuda_driver_version", mafsar::cuda_driver_version);
  m.def("cuda_devices", mafsar::cuda_devices);
  m.def("cuda_architectures", mafsar::cuda_architectures);
#endif
  m.def("set_num_threads", mafsar::set_num_threads);
  m.def("get_num_threads", mafsar::get_num_threads);
  m.def("use_team", [](Address at) { mafsar::use_team(reinterpret_cast<mafsar::Team>(at)); });
  m.def("isa", [] { return std::string(mafsar::isa()); });
  m.def("use_isa", [](const std::string& name) { return mafsar::use_isa(name.c_str()); });
}
