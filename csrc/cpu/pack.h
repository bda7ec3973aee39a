// A vector register of floats as a lane type: each element holds a different pair of clips.
//
// Written with the vector extensions of GCC and Clang, so that one source serves AVX-512, AVX2,
// SSE2 and NEON. The width follows from the compiler flags of the translation unit; with other
// compilers it is one.
#pragma once

#include <limits>

#include "mafsar/lane.h"

namespace mafsar {
namespace MAFSAR_ISA {

#if defined(__AVX512F__)
constexpr int kWidth = 16;
#elif defined(__AVX2__)
constexpr int kWidth = 8;
#elif defined(__GNUC__)
constexpr int kWidth = 4;
#else
constexpr int kWidth = 1;
#endif

#if defined(__GNUC__)
typedef float RawPack __attribute__((vector_size(sizeof(float) * kWidth)));
typedef std::int32_t RawBits __attribute__((vector_size(sizeof(float) * kWidth)));
#else
typedef float RawPack;
typedef std::int32_t RawBits;
#endif

struct Pack {
  RawPack v;
  Pack() = default;
  Pack(RawPack raw) : v(raw) {}  // NOLINT: operators return raw vectors
#if defined(__GNUC__)
  explicit Pack(float a) : v(a - RawPack{}) {}  // a - 0 keeps the sign of zero
#endif

  static Pack load(const float* from) {
    Pack pack;
    std::memcpy(&pack.v, from, sizeof pack.v);
    return pack;
  }
  // Loads the first `count` elements; the others are zero.
  static Pack load_part(const float* from, int count) {
    float all[kWidth] = {};
    std::memcpy(all, from, sizeof(float) * static_cast<std::size_t>(count));
    return load(all);
  }
  void store(float* to) const { std::memcpy(to, &v, sizeof v); }
  void store_part(float* to, int count) const {
    float all[kWidth];
    store(all);
    std::memcpy(to, all, sizeof(float) * static_cast<std::size_t>(count));
  }
};

inline Pack operator+(Pack a, Pack b) { return a.v + b.v; }
inline Pack operator-(Pack a, Pack b) { return a.v - b.v; }
inline Pack operator*(Pack a, Pack b) { return a.v * b.v; }
// One expression, which compilers contract to a fused multiply-add if the machine has one.
inline Pack lane_fma(Pack a, Pack b, Pack c) { return a.v * b.v + c.v; }
inline Pack lane_min(Pack a, Pack b) { return a.v < b.v ? a.v : b.v; }
inline Pack lane_if_negative(Pack test, Pack yes, Pack no) {
  return test.v < Pack(0.0f).v ? yes.v : no.v;
}
inline Pack lane_min_or_nan(Pack a, Pack b) {
  const Pack smaller = a.v <= b.v ? a.v : b.v;
  return a.v != a.v ? a.v : smaller.v;
}
inline Pack lane_at_least(float low, Pack a) {
  const Pack least(low);
  return least.v > a.v ? least.v : a.v;
}
inline Pack lane_abs(Pack a) {
  RawBits bits;
  std::memcpy(&bits, &a.v, sizeof bits);
  bits &= 0x7fffffff;
  std::memcpy(&a.v, &bits, sizeof bits);
  return a;
}
inline Pack lane_minus_abs(Pack a) {
  RawBits bits;
  std::memcpy(&bits, &a.v, sizeof bits);
  bits |= std::numeric_limits<std::int32_t>::min();
  std::memcpy(&a.v, &bits, sizeof bits);
  return a;
}
inline Pack lane_exponent(Pack a) {
  RawBits bits;
  std::memcpy(&bits, &a.v, sizeof bits);
  bits <<= 23;
  std::memcpy(&a.v, &bits, sizeof bits);
  return a;
}

// Elements of the low (high) halves of two vectors, interleaved.
#if defined(__AVX512F__)
#define MAFSAR_LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define MAFSAR_HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif defined(__AVX2__)
#define MAFSAR_LOW 0, 8, 1, 9, 2, 10, 3, 11
#define MAFSAR_HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define MAFSAR_LOW 0, 4, 1, 5
#define MAFSAR_HIGH 2, 6, 3, 7
#endif
#if defined(__clang__)
inline Pack interleave_low(Pack a, Pack b) { return __builtin_shufflevector(a.v, b.v, MAFSAR_LOW); }
inline Pack interleave_high(Pack a, Pack b) {
  return __builtin_shufflevector(a.v, b.v, MAFSAR_HIGH);
}
#elif defined(__GNUC__)
inline Pack interleave_low(Pack a, Pack b) {
  return __builtin_shuffle(a.v, b.v, RawBits{MAFSAR_LOW});
}
inline Pack interleave_high(Pack a, Pack b) {
  return __builtin_shuffle(a.v, b.v, RawBits{MAFSAR_HIGH});
}
#else
inline Pack interleave_low(Pack a, Pack) { return a; }
inline Pack interleave_high(Pack, Pack b) { return b; }
#endif
#undef MAFSAR_LOW
#undef MAFSAR_HIGH

// Adds kCount vectors up into one, two by two; each step halves the partial sums of a vector.
template <int kCount>
inline Pack fold_sums(const Pack* packs) {
  if constexpr (kCount == 1) {
    return packs[0];
  } else {
    constexpr int kHalf = kCount / 2;
    Pack folded[kHalf];
#pragma GCC unroll 8
    for (int i = 0; i < kHalf; ++i) {
      const Pack a = packs[i], b = packs[i + kHalf];
      folded[i] = interleave_low(a, b) + interleave_high(a, b);
    }
    return fold_sums<kHalf>(folded);
  }
}

// The sums of the elements of kWidth vectors, as one vector in the same order.
inline Pack sums(const Pack* packs) { return fold_sums<kWidth>(packs); }

// Transposes kWidth vectors as a square matrix: a perfect shuffle for each bit of the index.
template <int kRest = kWidth>
inline void transpose(Pack* square) {
  if constexpr (kRest > 1) {
    Pack shuffled[kWidth];
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; ++i) {
      shuffled[2 * i] = interleave_low(square[i], square[i + kWidth / 2]);
      shuffled[2 * i + 1] = interleave_high(square[i], square[i + kWidth / 2]);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) square[i] = shuffled[i];
    transpose<kRest / 2>(square);
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
