// The only file that knows Python. Each binding takes addresses and sizes that the Python doors
// have checked, lets go of the interpreter lock, and calls csrc/mafsar/matching.h.
#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>

#include "cpu/kernels.h"
#include "mafsar/adapter.h"
#include "mafsar/matching.h"

namespace py = pybind11;
using Address = std::uintptr_t;
using Release = py::call_guard<py::gil_scoped_release>;

namespace {

const float* floats(Address at) { return reinterpret_cast<const float*>(at); }
float* writable(Address at) { return reinterpret_cast<float*>(at); }
const std::int64_t* whole(Address at) { return reinterpret_cast<const std::int64_t*>(at); }

void align_forward(const std::string& metric, Address distances, Address lengths,
                   std::int64_t pairs, int rows, int columns, double lam, bool bidirectional,
                   Address out) {
  const mafsar::DistanceSizes sizes{pairs, rows, columns};
  if (metric == "otam") {
    mafsar::otam_cpu(floats(distances), whole(lengths), sizes, lam, bidirectional, writable(out));
  } else {
    mafsar::bimhm_cpu(floats(distances), whole(lengths), sizes, writable(out));
  }
}

void align_backward(const std::string& metric, Address grad, Address distances, Address lengths,
                    std::int64_t pairs, int rows, int columns, double lam, bool bidirectional,
                    Address out) {
  const mafsar::DistanceSizes sizes{pairs, rows, columns};
  if (metric == "otam") {
    mafsar::otam_backward_cpu(floats(grad), floats(distances), whole(lengths), sizes, lam,
                              bidirectional, writable(out));
  } else {
    mafsar::bimhm_backward_cpu(floats(grad), floats(distances), whole(lengths), sizes,
                               writable(out));
  }
}

void match_forward(const std::string& metric, Address query, Address prototypes,
                   Address query_lengths, Address prototype_lengths, std::int64_t batch,
                   std::int64_t queries, std::int64_t classes, int rows, int columns, int width,
                   double lam, Address scores) {
  const mafsar::Features features{floats(query), floats(prototypes), whole(query_lengths),
                                  whole(prototype_lengths)};
  const mafsar::FeatureSizes sizes{batch, queries, classes, rows, columns, width};
  if (metric == "otam") {
    mafsar::otam_match_cpu(features, sizes, lam, writable(scores));
  } else {
    mafsar::bimhm_match_cpu(features, sizes, writable(scores));
  }
}

void match_backward(const std::string& metric, Address grad, Address query, Address prototypes,
                    Address query_lengths, Address prototype_lengths, std::int64_t batch,
                    std::int64_t queries, std::int64_t classes, int rows, int columns, int width,
                    double lam, Address grad_query, Address grad_prototypes) {
  const mafsar::Features features{floats(query), floats(prototypes), whole(query_lengths),
                                  whole(prototype_lengths)};
  const mafsar::FeatureSizes sizes{batch, queries, classes, rows, columns, width};
  if (metric == "otam") {
    mafsar::otam_match_backward_cpu(floats(grad), features, sizes, lam, writable(grad_query),
                                    writable(grad_prototypes));
  } else {
    mafsar::bimhm_match_backward_cpu(floats(grad), features, sizes, writable(grad_query),
                                     writable(grad_prototypes));
  }
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

void linear_forward(Address x, Address weight, Address bias, int rows, int inputs, int outputs,
                    Address out) {
  mafsar::linear_cpu(floats(x), floats(weight), floats(bias), rows, inputs, outputs, writable(out));
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native kernels of mafsar; call them through mafsar.kernels, which checks.";
  m.def("align_forward", align_forward, Release());
  m.def("align_backward", align_backward, Release());
  m.def("match_forward", match_forward, Release());
  m.def("match_backward", match_backward, Release());
  m.def("norm_forward", norm_forward, Release());
  m.def("norm_backward", norm_backward, Release());
  m.def("attend_forward", attend_forward, Release());
  m.def("attend_backward", attend_backward, Release());
  m.def("gelu_forward", gelu_forward, Release());
  m.def("gelu_backward", gelu_backward, Release());
  m.def("linear_forward", linear_forward, Release());
  m.def("set_num_threads", mafsar::set_num_threads);
  m.def("get_num_threads", mafsar::get_num_threads);
  m.def("isa", [] { return std::string(mafsar::isa()); });
  m.def("use_isa", [](const std::string& name) { return mafsar::use_isa(name.c_str()); });
}
