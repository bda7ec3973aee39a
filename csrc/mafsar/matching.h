// The matching kernels on a CPU, as seen from outside: plain pointers and sizes.
//
// Nothing is checked here: the Python doors have done it. All arrays are contiguous float32,
// lengths are int64 or null; results are written to `out`, `scores` and the `grad_*` arrays, which
// need not be initialised. Calls may come from several threads at once.
#pragma once

#include <cstdint>

namespace mafsar {

// distances (pairs, rows, columns); lengths (pairs, 2) of own frames; out (pairs,).
struct DistanceSizes {
  std::int64_t pairs;
  int rows, columns;
};

void otam_cpu(const float* distances, const std::int64_t* lengths, DistanceSizes sizes, double lam,
              bool bidirectional, float* out);
// grad (pairs,); out (pairs, rows, columns).
void otam_backward_cpu(const float* grad, const float* distances, const std::int64_t* lengths,
                       DistanceSizes sizes, double lam, bool bidirectional, float* out);
void bimhm_cpu(const float* distances, const std::int64_t* lengths, DistanceSizes sizes,
               float* out);
void bimhm_backward_cpu(const float* grad, const float* distances, const std::int64_t* lengths,
                        DistanceSizes sizes, float* out);

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

void otam_match_cpu(const Features& features, FeatureSizes sizes, double lam, float* scores);
void otam_match_backward_cpu(const float* grad, const Features& features, FeatureSizes sizes,
                             double lam, float* grad_query, float* grad_prototypes);
void bimhm_match_cpu(const Features& features, FeatureSizes sizes, float* scores);
void bimhm_match_backward_cpu(const float* grad, const Features& features, FeatureSizes sizes,
                              float* grad_query, float* grad_prototypes);

// Most threads that one call may use, the calling one among them; at first the processors that this
// process may run on.
void set_num_threads(int count);
int get_num_threads();

// OpenMP's entry to a team of threads (GOMP_parallel of GNU's runtime, which LLVM's and Intel's
// have too): runs function(data) on `threads` threads, the calling one among them.
using Team = void (*)(void (*function)(void*), void* data, unsigned threads, unsigned flags);
// Works on that team from now on instead of threads of its own; null for those again. A process in
// which another library keeps a team should have no second one: its idle threads spin for
// milliseconds, on the very processors that ours would need.
void use_team(Team team);

}  // namespace mafsar
