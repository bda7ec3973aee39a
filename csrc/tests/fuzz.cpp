// A target for libFuzzer: one call of a CPU launcher, whose sizes, lengths and values the input
// chooses. Each array is as large as the launcher's header says and not a float larger, so the
// address sanitizer sees a read or a write beside it. Results must be written in full, and be the
// same numbers for every instruction set and number of threads, within rounding.
//
// tests/fuzz/sanitized.py builds it with clang. Without libFuzzer, -DMAFSAR_FUZZ_MAIN adds a main
// that draws as many inputs as its argument says.
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "mafsar/adapter.h"
#include "mafsar/matching.h"

namespace mafsar {
bool use_isa(const char* name);  // csrc/cpu/kernels.h
}

namespace {

constexpr float kUnwritten = 12345.678f;

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "%s\n", what);
  std::abort();
}

// An array of its own, so that what lies beside it belongs to nobody.
class Array {
 public:
  explicit Array(std::size_t count, float value = kUnwritten)
      : count_(count), values_(new float[count]) {
    for (std::size_t i = 0; i < count; ++i) values_[i] = value;
  }
  float* data() const { return values_.get(); }
  std::size_t size() const { return count_; }
  float& operator[](std::size_t i) const { return values_[i]; }

  const Array& written() const {
    for (std::size_t i = 0; i < count_; ++i) {
      if (values_[i] == kUnwritten) fail("a result was not written");
    }
    return *this;
  }

 private:
  std::size_t count_;
  std::unique_ptr<float[]> values_;
};

// The choices of an input; 0 after its end.
class Choices {
 public:
  Choices(const std::uint8_t* bytes, std::size_t count) : at_(bytes), end_(bytes + count) {}

  int byte() { return at_ < end_ ? *at_++ : 0; }
  int from(int least, int most) { return least + byte() % (most - least + 1); }

  // Mostly small; now and then more than a tile, or enough for several threads.
  int size(int least, int most) {
    const int kind = byte();
    return from(least, kind < 200 ? std::min(most, least + 9) : most);
  }

  Array floats(std::size_t count) {
    static const float odd[] = {0.0f, -0.0f, 1e-38f, 1e-45f, -1.0f, 1.0f, 100.0f, 1e4f};
    static const float wild[] = {1e30f, -1e30f, 3e38f, INFINITY, -INFINITY, NAN, 1e38f, -3e38f};
    const int kind = byte();
    std::minstd_rand random(static_cast<unsigned>(byte() + 1));
    std::uniform_real_distribution<float> uniform(-2.0f, 2.0f);
    Array values(count);
    for (std::size_t i = 0; i < count; ++i) values[i] = uniform(random);
    for (int spoilt = kind % 8; count > 0 && spoilt > 0; --spoilt) {
      const std::size_t at = (static_cast<std::size_t>(byte()) << 8 | byte()) % count;
      const bool is_wild = kind >= 192;
      values[at] = is_wild ? wild[byte() % 8] : odd[byte() % 8];
      tame_ = tame_ && !is_wild;
    }
    return values;
  }

  // A length for each video, or no lengths at all.
  std::vector<std::int64_t> lengths(std::size_t count, int most, int every = 1, int other = 0) {
    if (byte() % 2) return {};
    std::vector<std::int64_t> all(count);
    for (std::size_t i = 0; i < count; ++i) {
      all[i] = from(1, every == 2 && i % 2 ? other : most);
    }
    return all;
  }

  // Whether all numbers so far are of a size that models have.
  bool tame() const { return tame_; }

 private:
  const std::uint8_t *at_, *end_;
  bool tame_ = true;
};

const std::int64_t* pointer(const std::vector<std::int64_t>& lengths) {
  return lengths.empty() ? nullptr : lengths.data();
}

const char* const kTables[] = {"generic", "neon", "sse2", "avx2", "avx512"};

// Results of all tables and of one and three threads; those of tame numbers must agree.
template <class Call>
void compare(const Choices& choices, double allowed, const Call& call) {
  std::vector<Array> results;
  for (const char* table : kTables) {
    if (!mafsar::use_isa(table)) continue;
    for (int threads : {1, 3}) {
      mafsar::set_num_threads(threads);
      results.push_back(call());
      results.back().written();
      const Array &first = results.front(), &now = results.back();
      for (std::size_t i = 0; choices.tame() && i < now.size(); ++i) {
        const double size = 1.0 + std::fabs(first[i]);
        // Written so that NaN is refused.
        if (!(std::fabs(double{now[i]} - first[i]) <= allowed * size)) {
          std::fprintf(stderr, "%s, %d threads, place %zu: %.9g, first %.9g\n", table, threads, i,
                       now[i], first[i]);
          fail("results differ");
        }
      }
    }
  }
}

// Calls that have no results to compare: gradients change their place where costs are equal.
template <class Call>
void each(const Call& call) {
  for (const char* table : kTables) {
    if (!mafsar::use_isa(table)) continue;
    for (int threads : {1, 3}) {
      mafsar::set_num_threads(threads);
      call();
    }
  }
}

mafsar::Alignment alignment(Choices& choices) {
  static const double lam[] = {0.5, 0.5, 0.1, 0.01, 1e-6, 10.0, 1e6, 1e-30};
  const int kind = choices.byte();
  return {kind % 2 ? mafsar::Metric::kOtam : mafsar::Metric::kBimhm, lam[kind / 2 % 8],
          kind >= 128};
}

void align(Choices& choices) {
  const mafsar::Alignment how = alignment(choices);
  const mafsar::DistanceSizes sizes{choices.size(0, 90), choices.size(1, 40), choices.size(1, 40)};
  const auto pairs = static_cast<std::size_t>(sizes.pairs);
  const auto lengths = choices.lengths(2 * pairs, sizes.rows, 2, sizes.columns);
  const Array distances = choices.floats(pairs * sizes.rows * sizes.columns);
  // A cost adds one distance for each step, so rounding grows with the steps.
  const double steps = sizes.rows + sizes.columns;
  compare(choices, 1e-5 * steps, [&] {
    Array costs(pairs);
    mafsar::align_cpu(how, distances.data(), pointer(lengths), sizes, costs.data());
    return costs;
  });
  const Array grad = choices.floats(pairs);
  each([&] {
    const Array slopes(distances.size());
    mafsar::align_backward_cpu(how, grad.data(), distances.data(), pointer(lengths), sizes,
                               slopes.data());
    slopes.written();
  });
}

void match(Choices& choices) {
  const mafsar::Alignment how = alignment(choices);
  const mafsar::FeatureSizes sizes{choices.size(0, 4),  choices.size(0, 20), choices.size(0, 20),
                                   choices.size(1, 18), choices.size(1, 18), choices.size(1, 70)};
  const auto queries = static_cast<std::size_t>(sizes.batch * sizes.queries);
  const auto classes = static_cast<std::size_t>(sizes.batch * sizes.classes);
  const auto own = choices.lengths(queries, sizes.rows);
  const auto other = choices.lengths(classes, sizes.columns);
  const Array query = choices.floats(queries * sizes.rows * sizes.width);
  const Array prototypes = choices.floats(classes * sizes.columns * sizes.width);
  const mafsar::Features features{query.data(), prototypes.data(), pointer(own), pointer(other)};
  const std::size_t count = queries * static_cast<std::size_t>(sizes.classes);
  compare(choices, 1e-4 * (sizes.rows + sizes.columns), [&] {
    Array scores(count);
    mafsar::match_cpu(how, features, sizes, scores.data());
    return scores;
  });
  const Array grad = choices.floats(count);
  each([&] {
    const Array left(query.size()), right(prototypes.size());
    mafsar::match_backward_cpu(how, grad.data(), features, sizes, left.data(), right.data());
    left.written();
    right.written();
  });
}

void rows(Choices& choices) {
  const int heads = choices.from(1, 4);
  const mafsar::TokenSizes sizes{choices.size(0, 12), choices.size(1, 32), heads,
                                 heads * choices.size(1, 40)};
  const auto width = static_cast<std::size_t>(sizes.width);
  const std::size_t count = static_cast<std::size_t>(sizes.clips) * sizes.frames * width;
  const Array x = choices.floats(count), weight = choices.floats(width);
  const Array bias = choices.floats(width), qkv = choices.floats(3 * count);
  const Array grad = choices.floats(count), skip = choices.floats(count);
  const float eps = choices.byte() % 4 ? 1e-5f : 0.0f;
  each([&] {
    const Array normed(count), back(count), mixed(count), slopes(3 * count), gelu(count);
    mafsar::norm_rows_cpu(x.data(), weight.data(), bias.data(), sizes, eps, normed.data());
    mafsar::norm_rows_backward_cpu(grad.data(), skip.data(), x.data(), weight.data(), sizes, eps,
                                   back.data());
    mafsar::attend_cpu(qkv.data(), sizes, mixed.data());
    mafsar::attend_backward_cpu(grad.data(), qkv.data(), sizes, slopes.data());
    mafsar::gelu_cpu(x.data(), static_cast<std::int64_t>(count), gelu.data());
    for (const Array* all : {&normed, &back, &mixed, &slopes, &gelu}) all->written();
    mafsar::gelu_backward_cpu(grad.data(), x.data(), static_cast<std::int64_t>(count), gelu.data());
  });
}

void adapter(Choices& choices) {
  const int heads = choices.from(1, 4);
  const mafsar::TokenSizes sizes{choices.size(1, 4), choices.size(1, 12), heads,
                                 heads * choices.size(1, 24)};
  const int hidden = choices.size(1, 20), depth = choices.from(0, 4);
  const auto w = static_cast<std::size_t>(sizes.width), h = static_cast<std::size_t>(hidden);
  const std::size_t m = static_cast<std::size_t>(sizes.clips) * sizes.frames;
  const Array c = choices.floats(m * w), grad = choices.floats(m * w);
  const Array norm_weight = choices.floats(w), norm_bias = choices.floats(w);
  const Array qkv_weight = choices.floats(3 * w * w), qkv_bias = choices.floats(3 * w);
  const Array out_weight = choices.floats(w * w), out_bias = choices.floats(w);
  const Array down_weight = choices.floats(h * w), down_bias = choices.floats(h);
  const Array up_weight = choices.floats(w * h), up_bias = choices.floats(w);
  const mafsar::AdapterWeights weights{norm_weight.data(), norm_bias.data(),  qkv_weight.data(),
                                       qkv_bias.data(),    out_weight.data(), out_bias.data(),
                                       down_weight.data(), down_bias.data(),  up_weight.data(),
                                       up_bias.data()};
  const bool some = choices.byte() % 2;  // only the gradients of one product
  each([&] {
    const Array qkv(m * 3 * w), mixed(m * w), attended(m * w), kept_hidden(m * h), out(m * w);
    const mafsar::AdapterKept kept{qkv.data(), mixed.data(), attended.data(), kept_hidden.data()};
    mafsar::adapter_cpu(c.data(), weights, sizes, hidden, 1e-5f, kept, out.data());
    out.written();
    const Array s0(m * h), s1(m * w), s2(m * w), s3(m * 3 * w), s4(m * w), s5(m * w);
    const mafsar::AdapterScratch scratch{s0.data(), s1.data(), s2.data(),
                                         s3.data(), s4.data(), s5.data()};
    const Array g0(m * w), g1(3 * w * w), g2(3 * w), g3(w * w), g4(w), g5(h * w), g6(h), g7(w * h);
    const Array g8(w);
    mafsar::AdapterGrads grads{};
    grads.up_weight = g7.data();
    grads.up_bias = g8.data();
    if (!some) {
      if (depth >= 4) grads.c = g0.data();
      if (depth >= 3) grads.qkv_weight = g1.data(), grads.qkv_bias = g2.data();
      if (depth >= 2) grads.out_weight = g3.data(), grads.out_bias = g4.data();
      if (depth >= 1) grads.down_weight = g5.data(), grads.down_bias = g6.data();
    }
    mafsar::adapter_backward_cpu(grad.data(), c.data(), weights, kept, sizes, hidden, 1e-5f, depth,
                                 scratch, grads);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t count) {
  Choices choices(bytes, count);
  switch (choices.byte() % 4) {
    case 0:
      align(choices);
      break;
    case 1:
      match(choices);
      break;
    case 2:
      rows(choices);
      break;
    default:
      adapter(choices);
  }
  return 0;
}

#if defined(MAFSAR_FUZZ_MAIN)
int main(int count, char** arguments) {
  const int inputs = count > 1 ? std::atoi(arguments[1]) : 100;
  std::mt19937 random(1);
  for (int input = 0; input < inputs; ++input) {
    std::vector<std::uint8_t> bytes(64 + random() % 200);
    for (std::uint8_t& byte : bytes) byte = static_cast<std::uint8_t>(random());
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf("Done %d runs\n", inputs);
  return 0;
}
#endif
