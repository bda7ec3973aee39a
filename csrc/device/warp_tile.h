// A tile of 16 × 16 outputs of one warp, computed 16 columns at a time.
//
// The general form uses float32 multiply-adds: a lane holds eight outputs of one row. On a GPU the
// two half formats use the matrix units instead (float16 from compute capability 7.0, bfloat16
// from 8.0) with the same arguments and the same tile. The emulator does not run the four calls of
// that form.
#pragma once

#include <cassert>

#include "device/team.h"

#if defined(__CUDACC__)
#include <mma.h>
#endif

namespace mafsar {
namespace MAFSAR_ISA {

// Copies 16 bytes at once; both addresses are multiples of 16.
template <class Value>
MAFSAR_HD void load_vector(const Value* from, Value* values) {
#if defined(__CUDA_ARCH__)
  *reinterpret_cast<uint4*>(values) = *reinterpret_cast<const uint4*>(from);
#else
  assert((reinterpret_cast<std::uintptr_t>(from) | reinterpret_cast<std::uintptr_t>(values)) % 16 ==
         0);
  std::memcpy(values, from, 16);
#endif
}

// A and B are (16, 16) with rows `stride` apart: out(m, n) += sum_k A(m, k) B(n, k).
template <class Threads, class Value>
struct WarpTile {
  const Threads& on;
  float sum[8];

  MAFSAR_HD explicit WarpTile(const Threads& threads) : on(threads) {
    for (int i = 0; i < 8; ++i) sum[i] = 0.0f;
  }
  MAFSAR_HD int row() const { return on.thread() % kWarp / 2; }
  MAFSAR_HD int column() const { return on.thread() % 2 * 8; }

  MAFSAR_HD void multiply_add(const Value* a, const Value* b, int stride) {
    for (int k = 0; k < 16; ++k) {
      const float left = to_float(a[row() * stride + k]);
      for (int i = 0; i < 8; ++i) {
        sum[i] = lane_fma(left, to_float(b[(column() + i) * stride + k]), sum[i]);
      }
    }
  }
  MAFSAR_HD void store(float* out, int stride) const {
    for (int i = 0; i < 8; ++i) out[row() * stride + column() + i] = sum[i];
  }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
template <class Native, class Value>
struct MatrixUnits {
  using Units = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;
  Units sum;

  __device__ __forceinline__ MatrixUnits() { nvcuda::wmma::fill_fragment(sum, 0.0f); }

  __device__ __forceinline__ void multiply_add(const Value* a, const Value* b, int stride) {
    using namespace nvcuda::wmma;
    fragment<matrix_a, 16, 16, 16, Native, row_major> left;
    fragment<matrix_b, 16, 16, 16, Native, col_major> right;
    load_matrix_sync(left, reinterpret_cast<const Native*>(a), stride);
    load_matrix_sync(right, reinterpret_cast<const Native*>(b), stride);
    mma_sync(sum, left, right, sum);
  }
  __device__ __forceinline__ void store(float* out, int stride) const {
    nvcuda::wmma::store_matrix_sync(out, sum, stride, nvcuda::wmma::mem_row_major);
  }
};

template <class Threads>
struct WarpTile<Threads, Float16> : MatrixUnits<__half, Float16> {
  __device__ __forceinline__ explicit WarpTile(const Threads&) {}
};
#endif

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
template <class Threads>
struct WarpTile<Threads, Bfloat16> : MatrixUnits<__nv_bfloat16, Bfloat16> {
  __device__ __forceinline__ explicit WarpTile(const Threads&) {}
};
#endif

}  // namespace MAFSAR_ISA
}  // namespace mafsar
