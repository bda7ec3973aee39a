// Tests the CPU kernels without Python, on every instruction set of this machine, against
// golden.txt, which csrc/tests/write_golden.py computes in float64.
//
//   g++ -std=c++17 -O2 -Icsrc csrc/tests/test_golden.cpp … (see tests/kernels/test_cpp.py)
//   test_golden csrc/tests/golden.txt
//
// Prints what was checked and returns 1 at the first difference.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "mafsar/adapter.h"
#include "mafsar/matching.h"

namespace {

using Numbers = std::vector<double>;

constexpr std::size_t kManyPairs = 500;

struct Case {
  std::string name;
  std::map<std::string, Numbers> arrays;

  const Numbers& operator[](const char* key) const { return arrays.at(key); }
  std::vector<float> single(const char* key) const {
    const Numbers& all = arrays.at(key);
    return std::vector<float>(all.begin(), all.end());
  }
  int size(std::size_t index) const { return static_cast<int>(arrays.at("sizes")[index]); }
};

std::vector<Case> read(const char* path) {
  std::ifstream file(path);
  std::vector<Case> cases;
  std::string word;
  std::size_t count = 0;
  while (file >> word >> word >> count) {
    Case one{word, {}};
    for (std::size_t left = count; left > 0; --left) {
      file >> word >> count;
      Numbers values(count);
      for (double& value : values) file >> value;
      one.arrays[word] = values;
    }
    cases.push_back(one);
  }
  return cases;
}

bool close(const char* what, std::size_t i, double got, double want, double allowed) {
  if (std::fabs(got - want) <= allowed) return true;  // false for NaN
  std::printf("%s[%zu] is %.9g, expected %.9g\n", what, i, got, want);
  return false;
}

// `allowed` is a few units in the last place of the largest number that was summed.
bool near(const char* what, const std::vector<float>& got, const Numbers& want, double allowed) {
  if (got.size() != want.size()) return false;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (!close(what, i, got[i], want[i], allowed)) return false;
  }
  return true;
}

double sum_of(const Numbers& values) {
  double sum = 0.0;
  for (double value : values) sum += std::fabs(value);
  return sum;
}

mafsar::Metric metric_of(const Case& one) {
  return one.name.rfind("otam", 0) == 0 ? mafsar::Metric::kOtam : mafsar::Metric::kBimhm;
}

// One call on `pairs` pairs, which repeat those of the case, compared pair by pair.
bool check_pairs(const Case& one, std::size_t which_lam, std::size_t pairs) {
  const auto given_pairs = static_cast<std::size_t>(one.size(0));
  const int rows = one.size(1), columns = one.size(2);
  const std::vector<float> given = one.single("given");
  const std::size_t cells = given.size() / given_pairs;
  std::vector<float> distances(pairs * cells), costs(pairs), grad(pairs, 1.0f);
  std::vector<float> slopes(distances.size());
  for (std::size_t i = 0; i < distances.size(); ++i) distances[i] = given[i % given.size()];
  const mafsar::Alignment how{metric_of(one), one["lam"][which_lam], true};
  const mafsar::DistanceSizes sizes{static_cast<std::int64_t>(pairs), rows, columns};
  mafsar::align_cpu(how, distances.data(), nullptr, sizes, costs.data());
  mafsar::align_backward_cpu(how, grad.data(), distances.data(), nullptr, sizes, slopes.data());

  // Golden slopes exist for the first few λ only: small λ and large costs leave the weights to
  // differences within rounding.
  const Numbers& golden = one["slopes"];
  const bool smooth = which_lam < golden.size() / given.size();
  for (std::size_t p = 0; p < pairs; ++p) {
    const std::size_t pair = p % given_pairs, from = pair * cells;
    const auto begin = one["given"].begin() + static_cast<std::ptrdiff_t>(from);
    const double size = 1.0 + sum_of(Numbers(begin, begin + static_cast<std::ptrdiff_t>(cells)));
    const double cost = one["cost"][which_lam * given_pairs + pair];
    if (!close("cost", p, costs[p], cost, 2e-6 * size)) return false;
    for (std::size_t i = 0; smooth && i < cells; ++i) {
      const double slope = golden[which_lam * given.size() + from + i];
      if (!close("slope", p * cells + i, slopes[p * cells + i], slope, 1e-5)) return false;
    }
  }
  return true;
}

// Numbers of pairs that fill no lane, some tiles, and enough work for several threads.
bool check_alignment(const Case& one) {
  for (std::size_t which_lam = 0; which_lam < one["lam"].size(); ++which_lam) {
    for (std::size_t pairs : {static_cast<std::size_t>(one.size(0)), std::size_t{40}, kManyPairs}) {
      for (int threads : {1, 3}) {
        mafsar::set_num_threads(threads);
        if (check_pairs(one, which_lam, pairs)) continue;
        std::printf("lam %g, %zu pairs of %d x %d, %d threads\n", one["lam"][which_lam], pairs,
                    one.size(1), one.size(2), threads);
        return false;
      }
    }
  }
  return true;
}

bool check_matching(const Case& one) {
  const mafsar::FeatureSizes sizes{1,           one.size(0), one.size(1),
                                   one.size(2), one.size(2), one.size(3)};
  const std::vector<float> query = one.single("query"), prototypes = one.single("prototypes");
  const mafsar::Features features{query.data(), prototypes.data(), nullptr, nullptr};
  std::vector<float> scores(one["scores"].size());
  mafsar::match_cpu({metric_of(one), one["lam"][0], true}, features, sizes, scores.data());
  return near("score", scores, one["scores"], 1e-4);
}

bool check_rows(const Case& one) {
  if (one.name == "gelu") {
    const std::vector<float> x = one.single("x");
    std::vector<float> out(x.size());
    mafsar::gelu_cpu(x.data(), static_cast<std::int64_t>(x.size()), out.data());
    return near("gelu", out, one["out"], 4e-6);
  }
  const mafsar::TokenSizes sizes{one.size(0), one.size(1), one.size(2), one.size(3)};
  if (one.name == "norm_rows") {
    const std::vector<float> x = one.single("x"), weight = one.single("weight");
    const std::vector<float> bias = one.single("bias");
    std::vector<float> normed(x.size());
    mafsar::norm_rows_cpu(x.data(), weight.data(), bias.data(), sizes, 1e-5f, normed.data());
    return near("normed", normed, one["normed"], 4e-6);
  }
  const std::vector<float> qkv = one.single("qkv");
  std::vector<float> mixed(one["mixed"].size());
  mafsar::attend_cpu(qkv.data(), sizes, mixed.data());
  return near("mixed", mixed, one["mixed"], 4e-6);
}

bool check(const Case& one) {
  if (one.name == "otam" || one.name == "bimhm") return check_alignment(one);
  if (one.name == "otam_match" || one.name == "bimhm_match") return check_matching(one);
  return check_rows(one);
}

}  // namespace

int main(int count, char** arguments) {
  const std::vector<Case> cases = read(count > 1 ? arguments[1] : "");
  int checked = 0;
  for (const char* name : {"generic", "neon", "sse2", "avx2", "avx512"}) {
    if (!mafsar::use_isa(name)) continue;
    for (const Case& one : cases) {
      if (!check(one)) {
        std::printf("%s, %s\n", name, one.name.c_str());
        return 1;
      }
    }
    std::printf("%s right on %zu cases\n", name, cases.size());
    ++checked;
  }
  return checked > 0 && cases.size() > 15 ? 0 : 1;
}
