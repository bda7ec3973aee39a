// Alignment of videos given by their frame features: cosine distances go straight into the tile.
//
//   d(i, j) = 1 - (q_i . s_j) * r(q_i) * r(s_j),   r(x) = 1 / max(|x|, 1e-6), 0 for a zero vector
//   dL/dq_i = sum_j -g_ij r(q_i) r(s_j) s_j  +  r(q_i)^2 (sum_j g_ij cos_ij) q_i,  likewise s_j
//
// The second term is summed in `along` over all pairs of a video; the launcher adds it once.
// Products run along the width in blocks of rows × columns of frames that fill the registers. The
// limit of the forward pass is its multiply-adds: 8×8×512 for a pair of the usual size.
#pragma once

#include "cpu/distances_kernels.h"
#include "cpu/rows_kernels.h"
#include "cpu/windows_kernels.h"

namespace mafsar {
namespace MAFSAR_ISA {

// 32 vector registers hold a block of 4×4 sums, 16 hold 4×2; both are whole vectors of sums.
constexpr int kBlockRows = 4;
#if defined(__AVX512F__) || defined(__aarch64__)
constexpr int kBlockColumns = 4;
#else
constexpr int kBlockColumns = 2;
#endif
constexpr int kBlock = kBlockRows * kBlockColumns;
static_assert(kBlock % kWidth == 0, "a block's sums fill whole vectors");

// Products of kBlockRows × kBlockColumns frames. Rows and columns are given by pointers, so that a
// block at an edge can repeat one.
inline void block_products(const float* const* rows, const float* const* columns, int width,
                           float* out) {
  Pack sum[kBlock];
  for (int k = 0; k < kBlock; ++k) sum[k] = Pack(0.0f);
  int at = 0;
  for (; at + kWidth <= width; at += kWidth) {
    Pack right[kBlockColumns];
    for (int j = 0; j < kBlockColumns; ++j) right[j] = Pack::load(columns[j] + at);
    for (int i = 0; i < kBlockRows; ++i) {
      const Pack left = Pack::load(rows[i] + at);
      for (int j = 0; j < kBlockColumns; ++j) {
        sum[i * kBlockColumns + j] = lane_fma(left, right[j], sum[i * kBlockColumns + j]);
      }
    }
  }
  if (at < width) {
    for (int i = 0; i < kBlockRows; ++i) {
      const Pack left = Pack::load_part(rows[i] + at, width - at);
      for (int j = 0; j < kBlockColumns; ++j) {
        const Pack right = Pack::load_part(columns[j] + at, width - at);
        sum[i * kBlockColumns + j] = lane_fma(left, right, sum[i * kBlockColumns + j]);
      }
    }
  }
  for (int k = 0; k < kBlock; k += kWidth) sums(sum + k).store(out + k);
}

// Writes the distances of one pair of videos to its place in the tile of kPairs pairs.
template <int kPairs>
void cosine_distances(const float* rows, const float* row_norms, int row_count,
                      const float* columns, const float* column_norms, int column_count, int width,
                      float* tile) {
  const std::int64_t step = width;
  for (int l = 0; l < row_count; l += kBlockRows) {
    const float* left[kBlockRows];
    for (int i = 0; i < kBlockRows; ++i) {
      left[i] = rows + step * (l + i < row_count ? l + i : row_count - 1);
    }
    for (int m = 0; m < column_count; m += kBlockColumns) {
      const float* right[kBlockColumns];
      for (int j = 0; j < kBlockColumns; ++j) {
        right[j] = columns + step * (m + j < column_count ? m + j : column_count - 1);
      }
      float products[kBlock];
      block_products(left, right, width, products);
      for (int i = 0; i < kBlockRows && l + i < row_count; ++i) {
        for (int j = 0; j < kBlockColumns && m + j < column_count; ++j) {
          const float cosine =
              products[i * kBlockColumns + j] * row_norms[l + i] * column_norms[m + j];
          tile[((l + i) * column_count + m + j) * kPairs] = 1.0f - cosine;
        }
      }
    }
  }
}

// out[i] += sum_j factors[i * row_step + j * column_step] * in[j], vectors of `width`.
inline void add_products(const float* factors, int row_step, int column_step, int out_count,
                         int in_count, const float* in, int width, float* out) {
  const std::int64_t step = width;
  for (int l = 0; l < out_count; l += kBlockRows) {
    const int block = out_count - l < kBlockRows ? out_count - l : kBlockRows;
    const float* own = factors + l * row_step;
    float* to = out + l * step;
    int at = 0;
    if (block == kBlockRows) {
      for (; at + 2 * kWidth <= width; at += 2 * kWidth) {
        Pack sum[kBlockRows][2];
        for (int i = 0; i < kBlockRows; ++i) {
          sum[i][0] = Pack::load(to + i * step + at);
          sum[i][1] = Pack::load(to + i * step + at + kWidth);
        }
        for (int j = 0; j < in_count; ++j) {
          const Pack near = Pack::load(in + j * step + at);
          const Pack far = Pack::load(in + j * step + at + kWidth);
          for (int i = 0; i < kBlockRows; ++i) {
            const Pack factor(own[i * row_step + j * column_step]);
            sum[i][0] = lane_fma(factor, near, sum[i][0]);
            sum[i][1] = lane_fma(factor, far, sum[i][1]);
          }
        }
        for (int i = 0; i < kBlockRows; ++i) {
          sum[i][0].store(to + i * step + at);
          sum[i][1].store(to + i * step + at + kWidth);
        }
      }
    }
    for (int i = 0; i < block; ++i) {
      for (int j = 0; j < in_count; ++j) {
        const float factor = own[i * row_step + j * column_step];
        for (int e = at; e < width; ++e) to[i * step + e] += factor * in[j * step + e];
      }
    }
  }
}

// The indices of a pair's two videos in the block, and of its score.
struct PairPlace {
  std::int64_t row, column;  // video within the block's arrays
  std::int64_t score;

  PairPlace(const PairsOfVideos& job, std::int64_t pair) {
    row = pair / job.columns_each;
    const std::int64_t in_episode = pair - row * job.columns_each;
    const std::int64_t video = job.first_row + row;
    const std::int64_t episode = video / job.rows_each;
    column = (episode - job.first_episode) * job.columns_each + in_episode;
    score = episode * job.rows_each * job.columns_each +
            (video - episode * job.rows_each) * job.row_stride + in_episode * job.column_stride;
  }
};

template <class Lane>
void read_tile(const PairsOfVideos& job, const Stretch& stretch, const TilePairs<Lane>& pairs,
               float* tile) {
  constexpr int kPairs = LaneOf<Lane>::kPairs;
  const Videos& left = job.rows;
  const Videos& right = job.columns;
  for (int k = 0; k < pairs.count; ++k) {
    const PairPlace place(job, pairs.index[k]);
    const std::int64_t row = place.row * left.frames;
    const std::int64_t column = place.column * right.frames;
    cosine_distances<kPairs>(left.features + row * job.width, left.inverse_norms + row,
                             stretch.rows, right.features + column * job.width,
                             right.inverse_norms + column, stretch.columns, job.width, tile + k);
  }
  // Unused places of the tile repeat the last pair.
  const int cells = stretch.rows * stretch.columns;
  for (int cell = 0; cell < cells && pairs.count < kPairs; ++cell) {
    float* of_cell = tile + static_cast<std::ptrdiff_t>(cell) * kPairs;
    for (int k = pairs.count; k < kPairs; ++k) of_cell[k] = of_cell[pairs.count - 1];
  }
}

inline void videos_forward(const PairsOfVideos& job, const Alignment& how, const Stretch& stretch,
                           float* scratch) {
  const TileScratch tile = TileScratch::carve(scratch, stretch.rows, stretch.columns);
  for_tiles(stretch, [&](const auto& pairs, auto lane) {
    using Lane = decltype(lane);
    read_tile<Lane>(job, stretch, pairs, tile.distances);
    float costs[LaneOf<Lane>::kPairs];
    LaneOf<Lane>::store(align_forward<Lane>(how, stretch.rows, stretch.columns, tile), costs);
    for (int k = 0; k < pairs.count; ++k) {
      job.scores[PairPlace(job, pairs.index[k]).score] = costs[k];
    }
  });
}

// From the gradients of one pair's distances (its place in two tiles of kPairs) to those of its
// videos.
template <int kPairs>
void add_gradients(const PairsOfVideos& job, const Stretch& stretch, const PairPlace& place,
                   const float* distances, float* gradients) {
  const Videos& left = job.rows;
  const Videos& right = job.columns;
  const std::int64_t row = place.row * left.frames;
  const std::int64_t column = place.column * right.frames;
  // The gradients become the factors of the other side's vectors, in place.
  for (int l = 0; l < stretch.rows; ++l) {
    for (int m = 0; m < stretch.columns; ++m) {
      const std::ptrdiff_t cell = static_cast<std::ptrdiff_t>(l * stretch.columns + m) * kPairs;
      const float pull = gradients[cell] * (1.0f - distances[cell]);
      left.along[row + l] += pull;
      right.along[column + m] += pull;
      gradients[cell] *= -left.inverse_norms[row + l] * right.inverse_norms[column + m];
    }
  }
  const int across = stretch.columns * kPairs;
  add_products(gradients, across, kPairs, stretch.rows, stretch.columns,
               right.features + column * job.width, job.width, left.grad + row * job.width);
  add_products(gradients, kPairs, across, stretch.columns, stretch.rows,
               left.features + row * job.width, job.width, right.grad + column * job.width);
}

inline void videos_backward(const PairsOfVideos& job, const Alignment& how, const Stretch& stretch,
                            float* scratch) {
  const TileScratch tile = TileScratch::carve(scratch, stretch.rows, stretch.columns);
  for_tiles(stretch, [&](const auto& pairs, auto lane) {
    using Lane = decltype(lane);
    constexpr int kPairs = LaneOf<Lane>::kPairs;
    read_tile<Lane>(job, stretch, pairs, tile.distances);
    float grads[kPairs];
    for (int k = 0; k < kPairs; ++k) grads[k] = job.grad[PairPlace(job, pairs.index[k]).score];
    align_backward<Lane>(how, stretch.rows, stretch.columns, LaneOf<Lane>::load(grads), tile);
    for (int k = 0; k < pairs.count; ++k) {
      add_gradients<kPairs>(job, stretch, PairPlace(job, pairs.index[k]), tile.distances + k,
                            tile.gradients + k);
    }
  });
}

inline void inverse_norms(const float* vectors, std::int64_t count, int width, float* out) {
  for (std::int64_t i = 0; i < count; ++i, vectors += width) {
    Pack sum[kWidth];
    for (int k = 0; k < kWidth; ++k) sum[k] = Pack(0.0f);
    int at = 0;
    for (int k = 0; at + kWidth <= width; at += kWidth, k = (k + 1) % kWidth) {
      const Pack x = Pack::load(vectors + at);
      sum[k] = lane_fma(x, x, sum[k]);
    }
    const Pack rest = Pack::load_part(vectors + at, width - at);
    sum[0] = lane_fma(rest, rest, sum[0]);
    float partial[kWidth];
    sums(sum).store(partial);
    float square = 0.0f;
    for (int k = 0; k < kWidth; ++k) square += partial[k];
    const float norm = __builtin_sqrtf(square);
    // NaN has to reach the distances, so it takes the last branch.
    out[i] = norm == 0.0f ? 0.0f : (norm < 1e-6f ? 1e6f : 1.0f / norm);
  }
}

inline void add_scaled(const float* vectors, const float* factors, std::int64_t count, int width,
                       float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    add_products(factors + i, 1, 1, 1, 1, vectors + i * width, width, out + i * width);
  }
}

inline Kernels make_kernels(const char* name) {
  return {name,
          kWidth,
          TileScratch::floats,
          distances_forward,
          distances_backward,
          videos_forward,
          videos_backward,
          inverse_norms,
          add_scaled,
          windows_scratch,
          windows_forward,
          make_row_kernels()};
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
