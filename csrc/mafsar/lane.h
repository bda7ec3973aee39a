// The operations that the mathematics of one pair needs from a number type ("lane").
//
// The per-pair code in this folder is written once, as templates over a lane type: `float` where a
// CUDA thread or plain C++ holds one pair, `Pack` (csrc/cpu/pack.h) where a vector register holds
// one pair in each of its elements, `Both` where the two directions of OTAM run side by side.
// Every lane type offers + - *, construction from float, and the functions below.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__CUDACC__)
#define MAFSAR_HD __host__ __device__ __forceinline__
#else
#define MAFSAR_HD inline
#endif

// Translation units are compiled for different instruction sets from the same headers. Each has its
// own namespace. Otherwise the linker could keep a copy of an inline function whose instructions
// the machine does not have.
#if !defined(MAFSAR_ISA)
#define MAFSAR_ISA portable
#endif

namespace mafsar {
namespace MAFSAR_ISA {

MAFSAR_HD float lane_fma(float a, float b, float c) { return a * b + c; }
MAFSAR_HD float lane_min(float a, float b) { return a < b ? a : b; }
MAFSAR_HD float lane_abs(float a) { return a < 0.0f ? -a : a; }
MAFSAR_HD float lane_minus_abs(float a) { return a < 0.0f ? a : -a; }
// At least `low`. NaN stays NaN, so that it reaches the result.
MAFSAR_HD float lane_at_least(float low, float a) { return low > a ? low : a; }
// The smaller of the two, or NaN if either is NaN.
MAFSAR_HD float lane_min_or_nan(float a, float b) { return a != a ? a : (a <= b ? a : b); }
MAFSAR_HD float lane_if_negative(float test, float yes, float no) { return test < 0.0f ? yes : no; }
// Shifts the bits 23 to the left: moves the low mantissa bits to the exponent field.
MAFSAR_HD float lane_exponent(float a) {
  std::uint32_t bits;
  std::memcpy(&bits, &a, sizeof bits);
  bits <<= 23;
  std::memcpy(&a, &bits, sizeof a);
  return a;
}

// Two lanes side by side: independent chains of operations that hide each other's latency.
template <class Lane>
struct Both {
  Lane there, back;
  Both() = default;
  MAFSAR_HD Both(Lane a, Lane b) : there(a), back(b) {}
  MAFSAR_HD explicit Both(float a) : there(a), back(a) {}
};

template <class Lane>
MAFSAR_HD Both<Lane> operator+(Both<Lane> a, Both<Lane> b) {
  return {a.there + b.there, a.back + b.back};
}
template <class Lane>
MAFSAR_HD Both<Lane> operator-(Both<Lane> a, Both<Lane> b) {
  return {a.there - b.there, a.back - b.back};
}
template <class Lane>
MAFSAR_HD Both<Lane> operator*(Both<Lane> a, Both<Lane> b) {
  return {a.there * b.there, a.back * b.back};
}
template <class Lane>
MAFSAR_HD Both<Lane> lane_fma(Both<Lane> a, Both<Lane> b, Both<Lane> c) {
  return {lane_fma(a.there, b.there, c.there), lane_fma(a.back, b.back, c.back)};
}
template <class Lane>
MAFSAR_HD Both<Lane> lane_min(Both<Lane> a, Both<Lane> b) {
  return {lane_min(a.there, b.there), lane_min(a.back, b.back)};
}
template <class Lane>
MAFSAR_HD Both<Lane> lane_abs(Both<Lane> a) {
  return {lane_abs(a.there), lane_abs(a.back)};
}
template <class Lane>
MAFSAR_HD Both<Lane> lane_minus_abs(Both<Lane> a) {
  return {lane_minus_abs(a.there), lane_minus_abs(a.back)};
}
template <class Lane>
MAFSAR_HD Both<Lane> lane_min_or_nan(Both<Lane> a, Both<Lane> b) {
  return {lane_min_or_nan(a.there, b.there), lane_min_or_nan(a.back, b.back)};
}
template <class Lane>
MAFSAR_HD Both<Lane> lane_at_least(float low, Both<Lane> a) {
  return {lane_at_least(low, a.there), lane_at_least(low, a.back)};
}
template <class Lane>
MAFSAR_HD Both<Lane> lane_if_negative(Both<Lane> test, Both<Lane> yes, Both<Lane> no) {
  return {lane_if_negative(test.there, yes.there, no.there),
          lane_if_negative(test.back, yes.back, no.back)};
}
template <class Lane>
MAFSAR_HD Both<Lane> lane_exponent(Both<Lane> a) {
  return {lane_exponent(a.there), lane_exponent(a.back)};
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
