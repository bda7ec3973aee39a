// The kernels without Python: every instruction set of this machine against a plain loop in double.
//
//   g++ -std=c++17 -O2 -Icsrc csrc/tests/test_matching.cpp … (see tests/kernels/test_plain_cpp.py)
//
// Prints what was checked and returns 1 at the first difference.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "cpu/kernels.h"
#include "mafsar/matching.h"

namespace {

using Table = std::vector<std::vector<double>>;

double soft_minimum(const std::vector<double>& ways, double lam) {
  const double least = *std::min_element(ways.begin(), ways.end());
  double sum = 0.0;
  for (double way : ways) sum += std::exp((least - way) / lam);
  return least - lam * std::log(sum);
}

// One direction, cell by cell over the padded table.
double otam(const Table& d, double lam) {
  const std::size_t rows = d.size(), last = d[0].size() + 1;
  const auto padded = [&](std::size_t l, std::size_t m) {
    return m == 0 || m == last ? 0.0 : d[l][m - 1];
  };
  Table c(rows, std::vector<double>(last + 1, 0.0));
  for (std::size_t m = 1; m <= last; ++m) c[0][m] = padded(0, m) + c[0][m - 1];
  for (std::size_t l = 1; l < rows; ++l) {
    for (std::size_t m = 1; m <= last; ++m) {
      std::vector<double> ways{c[l - 1][m - 1], c[l][m - 1]};
      if (m == 1 || m == last) ways.push_back(c[l - 1][m]);
      c[l][m] = padded(l, m) + soft_minimum(ways, lam);
    }
  }
  return c[rows - 1][last];
}

Table transposed(const Table& d) {
  Table t(d[0].size(), std::vector<double>(d.size()));
  for (std::size_t l = 0; l < d.size(); ++l) {
    for (std::size_t m = 0; m < d[0].size(); ++m) t[m][l] = d[l][m];
  }
  return t;
}

double both(const Table& d, double lam) { return otam(d, lam) + otam(transposed(d), lam); }

double uniform() { return static_cast<double>(std::rand()) / RAND_MAX; }

bool check(int pairs, int rows, int columns, double lam, double scale) {
  std::vector<float> distances(static_cast<std::size_t>(pairs * rows * columns));
  for (float& d : distances) d = static_cast<float>(scale * (2.0 * uniform() - 1.0));
  const mafsar::DistanceSizes sizes{pairs, rows, columns};
  std::vector<float> costs(static_cast<std::size_t>(pairs)), ones(costs.size(), 1.0f);
  std::vector<float> slopes(distances.size());
  mafsar::otam_cpu(distances.data(), nullptr, sizes, lam, true, costs.data());
  mafsar::otam_backward_cpu(ones.data(), distances.data(), nullptr, sizes, lam, true,
                            slopes.data());
  for (int p = 0; p < pairs; ++p) {
    Table d(static_cast<std::size_t>(rows), std::vector<double>(static_cast<std::size_t>(columns)));
    double largest = 0.0;
    const auto start = static_cast<std::size_t>(p * rows * columns);
    for (int k = 0; k < rows * columns; ++k) {
      d[static_cast<std::size_t>(k / columns)][static_cast<std::size_t>(k % columns)] =
          distances[start + static_cast<std::size_t>(k)];
      largest += std::fabs(distances[start + static_cast<std::size_t>(k)]);
    }
    const double want = both(d, lam);
    const double got = costs[static_cast<std::size_t>(p)];
    if (!(std::fabs(got - want) <= 2e-6 * (1.0 + largest))) {
      std::printf("cost of pair %d: %.9g, not %.9g\n", p, got, want);
      return false;
    }
    // Central difference of the loop at one cell, where it is smooth enough to have one.
    if (lam < 0.1 || scale > 2.0) continue;
    const auto l = static_cast<std::size_t>(p % rows), m = static_cast<std::size_t>(p % columns);
    const double step = 1e-5;
    d[l][m] += step;
    const double above = both(d, lam);
    d[l][m] -= 2 * step;
    const double slope = (above - both(d, lam)) / (2 * step);
    const double found = slopes[start + l * static_cast<std::size_t>(columns) + m];
    if (!(std::fabs(found - slope) <= 1e-4)) {
      std::printf("slope of pair %d: %.9g, not %.9g\n", p, found, slope);
      return false;
    }
  }
  return true;
}

}  // namespace

int main() {
  int checked = 0;
  for (const char* name : {"generic", "neon", "sse2", "avx2", "avx512"}) {
    if (!mafsar::use_isa(name)) continue;
    for (int threads : {1, 3}) {
      mafsar::set_num_threads(threads);
      for (double lam : {1e-3, 0.1, 0.5, 10.0}) {
        for (double scale : {1.0, 1e4}) {
          const bool right = check(1, 1, 1, lam, scale) && check(7, 1, 5, lam, scale) &&
                             check(33, 8, 8, lam, scale) && check(40, 7, 17, lam, scale) &&
                             check(3, 32, 9, lam, scale) && check(500, 8, 8, lam, scale);
          if (!right) {
            std::printf("%s, %d threads, lam %g, scale %g\n", name, threads, lam, scale);
            return 1;
          }
        }
      }
    }
    std::printf("%s right\n", name);
    ++checked;
  }
  return checked ? 0 : 1;
}
