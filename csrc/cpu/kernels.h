// The table of functions that every instruction set provides, and their arguments.
//
// csrc/cpu/isa_*.cpp compile the same templates with different flags; dispatch.cpp picks one table
// when the module is loaded. The functions allocate nothing and start no threads: the
// launchers (align.cpp, match.cpp) do both, and give each call its own scratch memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "mafsar/alignment.h"
#include "mafsar/matching.h"

namespace mafsar {

// A group of pairs of one size: order[begin …], or begin, begin + 1, … if `order` is null.
struct Stretch {
  const std::int64_t* order;
  std::int64_t begin, count;
  int rows, columns;  // own frames of each side
};

// Pairs whose distances are given, (pairs, rows, columns) contiguous.
struct PairsOfDistances {
  const float* distances;
  const float* grad;  // (pairs,), backward only
  float* out;         // (pairs,) forward; (pairs, rows, columns) backward
  int rows, columns;  // as stored; a pair may have fewer
};

// One side of a block of pairs of videos.
struct Videos {
  const float* features;       // (videos, frames, width)
  const float* inverse_norms;  // (videos, frames): 1 / max(norm, 1e-6), 0 for a zero vector
  float* grad;                 // (videos, frames, width), backward only; added to
  float* along;                // (videos, frames), backward only: gradient along the unit vector
  int frames;                  // as stored; a video may have fewer
};

// All pairs of some videos (rows) with the `columns_each` videos (columns) of their episode.
struct PairsOfVideos {
  Videos rows, columns;        // arrays start with the block's first video
  std::int64_t first_row;      // number of that row video over all episodes
  std::int64_t first_episode;  // episode that `columns` starts with
  std::int64_t rows_each;      // row videos in an episode
  std::int64_t columns_each;   // column videos in an episode
  std::int64_t row_stride;     // of the scores within an episode
  std::int64_t column_stride;
  const float* grad;  // (episodes, …) backward only
  float* scores;      // (episodes, …) forward only
  int width;
};

// Windows of an archive against prototypes, see windows_kernels.h.
struct WindowsJob {
  Alignment how;
  WindowViews views;
  const std::uint16_t* features;  // (windows, frames, width), float16
  const float* panels;            // frames of the prototypes as unit vectors, group after group
  float* scores;                  // (windows, classes)
  int frames, columns, width, classes;
  int group;  // classes in a group
};

// The temporal adapter; rows are contiguous, see csrc/mafsar/adapter.h. W is (outputs, inputs).
struct RowKernels {
  void (*norm_rows)(const float* x, const float* weight, const float* bias, std::int64_t rows,
                    int width, float eps, float* normed);
  void (*norm_rows_backward)(const float* grad, const float* skip, const float* x,
                             const float* weight, std::int64_t rows, int width, float eps,
                             float* out);
  // One head of one clip of (frames, 3 * width); scratch of frames^2 floats, twice that backward.
  void (*attend)(const float* qkv, int frames, int heads, int width, int head, float* scratch,
                 float* mixed);
  void (*attend_backward)(const float* grad, const float* qkv, int frames, int heads, int width,
                          int head, float* scratch, float* grad_qkv);
  void (*gelu)(const float* x, std::int64_t count, float* out);
  void (*gelu_backward)(const float* grad, const float* x, std::int64_t count, float* grad_x);
  // Columns [first, last) of x Wᵀ + b and of grad W, for few rows.
  void (*linear_of_few)(const float* x, const float* weight, const float* bias, int rows,
                        int inputs, int outputs, int first, int last, float* out);
  void (*grad_of_few)(const float* grad, const float* weight, int rows, int inputs, int outputs,
                      int first, int last, float* out);
  // For more rows: pack_panel writes at most `panel_rows` rows of x as a panel of panel_rows *
  // width floats; linear_of_panels computes columns [first, last) of x Wᵀ + b from the panels of
  // all rows, which are contiguous.
  int panel_rows;
  void (*pack_panel)(const float* x, int rows, int width, float* panel);
  void (*linear_of_panels)(const float* panels, const float* weight, const float* bias, int rows,
                           int inputs, int outputs, int first, int last, float* out);
  // Rows [first, last) of gradᵀ x, and the sums of grad's columns unless `sums` is null.
  void (*weight_grad)(const float* grad, const float* x, int rows, int inputs, int outputs,
                      int first, int last, float* out, float* sums);
};

struct Kernels {
  const char* name;
  int width;  // number of pairs computed at a time
  // Scratch for pairs of at most rows × columns frames, in floats.
  std::size_t (*scratch_floats)(int rows, int columns, bool backward);
  void (*distances_forward)(const PairsOfDistances&, const Alignment&, const Stretch&, float*);
  void (*distances_backward)(const PairsOfDistances&, const Alignment&, const Stretch&, float*);
  void (*videos_forward)(const PairsOfVideos&, const Alignment&, const Stretch&, float*);
  void (*videos_backward)(const PairsOfVideos&, const Alignment&, const Stretch&, float*);
  void (*inverse_norms)(const float* vectors, std::int64_t count, int width, float* out);
  // out[i] += factors[i] * vectors[i]
  void (*add_scaled)(const float* vectors, const float* factors, std::int64_t count, int width,
                     float* out);
  // Scratch for a block of windows, in floats; `depth` is the width of what is matched.
  std::size_t (*windows_scratch)(int frames, int depth, int group_columns, int columns);
  // Windows [first, first + count), at most 2 * width of them.
  void (*windows_forward)(const WindowsJob&, std::int64_t first, int count, float* scratch);
  RowKernels rows;
};

const Kernels& kernels_baseline();
#if defined(MAFSAR_X86_64)
const Kernels& kernels_avx2();
const Kernels& kernels_avx512();
#endif

// The table in use: the best one for this processor, unless `use_isa` chose another.
const Kernels& kernels();
const char* isa();
// Uses the named table. False if it does not exist or this processor cannot run it.
bool use_isa(const char* name);

}  // namespace mafsar
