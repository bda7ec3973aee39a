// The launchers of the matching kernels on a CPU: plain pointers and sizes.
//
// The arguments are not checked here; mafsar.kernels checks them in Python. All arrays are
// contiguous float32; lengths are int64 or null. Results are written to `out`, `scores` and the
// `grad_*` arrays, which need not be initialised. Several threads may call at once.
#pragma once

#include <cstdint>

#include "mafsar/alignment.h"

namespace mafsar {

// distances (pairs, rows, columns); lengths (pairs, 2) of own frames; out (pairs,).
struct DistanceSizes {
  std::int64_t pairs;
  int rows, columns;
};

void align_cpu(const Alignment& how, const float* distances, const std::int64_t* lengths,
               DistanceSizes sizes, float* out);
// grad (pairs,); out (pairs, rows, columns).
void align_backward_cpu(const Alignment& how, const float* grad, const float* distances,
                        const std::int64_t* lengths, DistanceSizes sizes, float* out);

// query (batch, queries, rows, width) × prototypes (batch, classes, columns, width); lengths
// (batch, queries) and (batch, classes); scores (batch, queries, classes).
struct FeatureSizes {
  std::int64_t batch, queries, classes;
  int rows, columns, width;
};

struct Features {
  const float* query;
  const float* prototypes;
  const std::int64_t* query_lengths;
  const std::int64_t* prototype_lengths;
};

// Alignment over the cosine distances of the features, always in both directions.
void match_cpu(const Alignment& how, const Features& features, FeatureSizes sizes, float* scores);
void match_backward_cpu(const Alignment& how, const float* grad, const Features& features,
                        FeatureSizes sizes, float* grad_query, float* grad_prototypes);

// What of a window's features is matched: appearance about `mean` and change, or the features as
// they are where `mean` is null (docs/method.md, "Views").
struct WindowViews {
  const float* mean;         // (width,)
  float floor;               // least norm that the change is divided by
  float appearance, change;  // √(1-w), √w
};

struct WindowSizes {
  std::int64_t windows;
  int classes, frames, columns, width;
};

// features (windows, frames, width) of float16 × prototypes (classes, columns, depth), which are
// views already: depth = 2 * width, or width where mean is null. scores (windows, classes).
void windows_cpu(const Alignment& how, const WindowViews& views, const std::uint16_t* features,
                 const float* prototypes, WindowSizes sizes, float* scores);

// The maximum number of threads of one call, the calling thread included. The default is the number
// of processors that this process may run on.
void set_num_threads(int count);
int get_num_threads();

// OpenMP's entry to a team of threads (GOMP_parallel of GNU's runtime; LLVM's and Intel's runtimes
// have it too). It runs function(data) on `threads` threads, the calling thread included.
using Team = void (*)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
// Use that team from now on; null restores the module's own threads. A process should have only one
// team: the idle threads of a second one spin for milliseconds on the processors that ours need.
void use_team(Team team);

}  // namespace mafsar
