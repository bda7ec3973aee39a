// How the frames of two clips are compared. Every matching launcher takes this struct, on a CPU and
// on a GPU.
#pragma once

namespace mafsar {

// A switch over this enum has no default, so that the compiler names every place that a new metric
// has to be added to.
enum class Metric { kOtam = 0, kBimhm = 1 };

struct Alignment {
  Metric metric;
  double lam;          // OTAM only
  bool bidirectional;  // OTAM only; Bi-MHM always is
};

}  // namespace mafsar
