// A tile of 16 × 16 outputs of one warp, computed 16 columns at a time.
//
// The general form uses float32 multiply-adds: a lane holds eight outputs of one row. On a GPU the
// two half formats use the matrix units instead (float16 from compute capability 7.0, bfloat16
// from 8.0) with the same arguments and the same tile. The emulator does not run the four calls of
// that form.
#pragma once

#include "device/team.h"

#if defined(__CUDACC__)
#include <mma.h>
#endif

namespace mafsar {
namespace MAFSAR_ISA {

// The dimension along which the numbers of an operand are next to each other.
enum class Along { kDepth, kRows };

constexpr int kWarpRows = 16;  // of each operand of a step, and its depth

// Place of entry (row, k) of a tile whose vectors are `pitch` apart.
template <Along kAlong>
MAFSAR_HD int place(int row, int k, int pitch) {
  return kAlong == Along::kDepth ? row * pitch + k : k * pitch + row;
}

// A and B are (16, 16): out(m, n) += sum_k A(m, k) B(n, k).
template <class Threads, class Value>
struct WarpTile {
  const Threads& on;
  float sum[8];

  MAFSAR_HD explicit WarpTile(const Threads& threads) : on(threads) {
    for (int i = 0; i < 8; ++i) sum[i] = 0.0f;
  }
  MAFSAR_HD int row() const { return on.thread() % kWarp / 2; }
  MAFSAR_HD int column() const { return on.thread() % 2 * 8; }

  template <Along kA, Along kB>
  MAFSAR_HD void multiply_add(const Value* a, int a_pitch, const Value* b, int b_pitch) {
    for (int k = 0; k < kWarpRows; ++k) {
      const float left = to_float(a[place<kA>(row(), k, a_pitch)]);
      for (int i = 0; i < 8; ++i) {
        sum[i] = lane_fma(left, to_float(b[place<kB>(column() + i, k, b_pitch)]), sum[i]);
      }
    }
  }
  MAFSAR_HD void store(float* out, int pitch) const {
    for (int i = 0; i < 8; ++i) out[row() * pitch + column() + i] = sum[i];
  }
};

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
template <Along kAlong>
struct Layouts {
  using OfA = nvcuda::wmma::row_major;
  using OfB = nvcuda::wmma::col_major;
};
template <>
struct Layouts<Along::kRows> {
  using OfA = nvcuda::wmma::col_major;
  using OfB = nvcuda::wmma::row_major;
};

template <class Native, class Value>
struct MatrixUnits {
  using Units = nvcuda::wmma::fragment<nvcuda::wmma::accumulator, 16, 16, 16, float>;
  Units sum;

  __device__ __forceinline__ MatrixUnits() { nvcuda::wmma::fill_fragment(sum, 0.0f); }

  template <Along kA, Along kB>
  __device__ __forceinline__ void multiply_add(const Value* a, int a_pitch, const Value* b,
                                               int b_pitch) {
    using namespace nvcuda::wmma;
    fragment<matrix_a, 16, 16, 16, Native, typename Layouts<kA>::OfA> left;
    fragment<matrix_b, 16, 16, 16, Native, typename Layouts<kB>::OfB> right;
    load_matrix_sync(left, reinterpret_cast<const Native*>(a), a_pitch);
    load_matrix_sync(right, reinterpret_cast<const Native*>(b), b_pitch);
    mma_sync(sum, left, right, sum);
  }
  __device__ __forceinline__ void store(float* out, int pitch) const {
    nvcuda::wmma::store_matrix_sync(out, sum, pitch, nvcuda::wmma::mem_row_major);
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
