// Calls every CPU launcher from many threads at once and compares each result, bit by bit, with
// that of a caller who is alone. The pool's size is the same: gradients may depend on it.
// tests/kernels/test_sanitizers.py builds it with ThreadSanitizer.
//
// Prints the number of calls, or returns 1 at the first difference.
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <thread>
#include <vector>

#include "mafsar/adapter.h"
#include "mafsar/matching.h"

namespace {

using Floats = std::vector<float>;

Floats drawn(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  Floats values(count);
  for (float& value : values) value = normal(random);
  return values;
}

// One call of each launcher on inputs that the seed decides; all results in a row.
Floats everything(unsigned seed) {
  const int sizes[] = {1, 3, 8, 17};
  const int rows = sizes[seed % 4], columns = sizes[seed / 4 % 4], width = 40;
  const std::int64_t pairs = 70, queries = 9, classes = 5;
  const mafsar::Alignment how{seed % 2 ? mafsar::Metric::kOtam : mafsar::Metric::kBimhm, 0.5, true};
  Floats all;
  const auto add = [&](const Floats& more) { all.insert(all.end(), more.begin(), more.end()); };

  const Floats distances = drawn(pairs * rows * columns, seed), grad = drawn(pairs, seed + 1);
  Floats costs(pairs), slopes(distances.size());
  mafsar::align_cpu(how, distances.data(), nullptr, {pairs, rows, columns}, costs.data());
  mafsar::align_backward_cpu(how, grad.data(), distances.data(), nullptr, {pairs, rows, columns},
                             slopes.data());
  add(costs);
  add(slopes);

  const Floats query = drawn(2 * queries * rows * width, seed + 2);
  const Floats prototypes = drawn(2 * classes * columns * width, seed + 3);
  const mafsar::Features features{query.data(), prototypes.data(), nullptr, nullptr};
  const mafsar::FeatureSizes sized{2, queries, classes, rows, columns, width};
  Floats scores(2 * queries * classes), left(query.size()), right(prototypes.size());
  mafsar::match_cpu(how, features, sized, scores.data());
  mafsar::match_backward_cpu(how, scores.data(), features, sized, left.data(), right.data());
  add(scores);
  add(left);
  add(right);

  const mafsar::TokenSizes tokens{3, 8, 4, 32};
  const int hidden = 8;
  const std::size_t count = 3 * 8 * 32;
  const Floats c = drawn(count, seed + 4), weights = drawn(3 * 32 * 32, seed + 5);
  Floats qkv(3 * count), mixed(count), attended(count), kept(3 * 8 * hidden), out(count);
  const float* w = weights.data();
  mafsar::adapter_cpu(c.data(), {w, w, w, w, w, w, w, w, w, w}, tokens, hidden, 1e-5f,
                      {qkv.data(), mixed.data(), attended.data(), kept.data()}, out.data());
  add(out);
  return all;
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : 16;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 32;
  std::vector<Floats> expected;
  mafsar::set_num_threads(4);
  for (int round = 0; round < rounds; ++round) expected.push_back(everything(round));
  std::atomic<int> calls{0}, wrong{0};
  std::vector<std::thread> team;
  for (int thread = 0; thread < threads; ++thread) {
    team.emplace_back([&, thread] {
      for (int i = 0; i < rounds; ++i) {
        const int round = (i + thread) % rounds;
        const Floats found = everything(round);
        const std::size_t bytes = found.size() * sizeof(float);
        if (std::memcmp(found.data(), expected[round].data(), bytes) != 0) ++wrong;
        ++calls;
      }
    });
  }
  for (std::thread& each : team) each.join();
  std::printf("%d calls, %d of them wrong\n", calls.load(), wrong.load());
  return wrong.load() ? 1 : 0;
}
