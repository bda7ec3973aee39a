// The kernels without Python against golden.txt, which csrc/tests/write_golden.py computes in
// float64; every instruction set of this machine.
//
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

// A few units in the last place of the largest number that was summed.
bool near(const char* what, const std::vector<float>& got, const Numbers& want, double allowed) {
  if (got.size() != want.size()) return false;
  for (std::size_t i = 0; i < want.size(); ++i) {
    if (!(std::fabs(got[i] - want[i]) <= allowed)) {
      std::printf("%s[%zu] is %.9g, not %.9g\n", what, i, got[i], want[i]);
      return false;
    }
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

bool check_alignment(const Case& one) {
  const mafsar::DistanceSizes sizes{1, one.size(0), one.size(1)};
  const std::vector<float> given = one.single("given"), grad{1.0f};
  std::vector<float> cost(1), slopes(given.size());
  const double lam = one["lam"][0];
  const mafsar::Alignment how{metric_of(one), lam, true};
  mafsar::align_cpu(how, given.data(), nullptr, sizes, cost.data());
  mafsar::align_backward_cpu(how, grad.data(), given.data(), nullptr, sizes, slopes.data());
  const double size = 1.0 + sum_of(one["given"]);
  if (!near("cost", cost, one["cost"], 2e-6 * size)) return false;
  // Small λ and large costs leave weights to differences within rounding.
  const bool smooth = one.name == "bimhm" || (lam >= 0.1 && size < 1e3);
  return !smooth || near("slope", slopes, one["slopes"], 1e-5);
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
