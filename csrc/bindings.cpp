// The only file that knows Python: each binding checks nothing and forwards to csrc/mafsar/*.h.
#include <pybind11/pybind11.h>

PYBIND11_MODULE(_native, m) { m.doc() = "Native kernels of mafsar."; }
