// The format of numbers in memory: float32, float16 or bfloat16. Arithmetic is always in float32.
#pragma once

#include "mafsar/lane.h"

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#endif

namespace mafsar {

// The numbers of STORAGES in mafsar/kernels/torch_ops/adapter_cuda.py.
enum class Storage { kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2 };

struct Float16 {
  std::uint16_t bits;
};

struct Bfloat16 {
  std::uint16_t bits;
};

namespace MAFSAR_ISA {

MAFSAR_HD float bits_as_float(std::uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

MAFSAR_HD std::uint32_t float_as_bits(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

MAFSAR_HD float to_float(float value) { return value; }

MAFSAR_HD float to_float(Bfloat16 value) {
  return bits_as_float(static_cast<std::uint32_t>(value.bits) << 16);
}

MAFSAR_HD float to_float(Float16 value) {
#if defined(__CUDA_ARCH__)
  return __half2float(__ushort_as_half(value.bits));
#else
  const std::uint32_t sign = static_cast<std::uint32_t>(value.bits & 0x8000) << 16;
  const std::uint32_t rest = value.bits & 0x7fff;
  if (rest >= 0x7c00) return bits_as_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // Exact for subnormal numbers too: the bits are a whole number of 2^-24 below 2^-14.
  if (rest < 0x400) {
    const float small = static_cast<float>(rest) * 5.9604644775390625e-8f;
    return sign ? -small : small;
  }
  return bits_as_float(sign | ((rest << 13) + 0x38000000));
#endif
}

template <class Value>
MAFSAR_HD Value from_float(float value);

template <>
MAFSAR_HD float from_float<float>(float value) {
  return value;
}

// Rounds to the nearest, ties to even.
template <>
MAFSAR_HD Bfloat16 from_float<Bfloat16>(float value) {
  const std::uint32_t bits = float_as_bits(value);
  if (value != value) return {static_cast<std::uint16_t>(bits >> 16 | 0x40)};
  return {static_cast<std::uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

template <>
MAFSAR_HD Float16 from_float<Float16>(float value) {
#if defined(__CUDA_ARCH__)
  return {__half_as_ushort(__float2half_rn(value))};
#else
  const std::uint32_t bits = float_as_bits(value);
  const auto sign = static_cast<std::uint16_t>(bits >> 16 & 0x8000);
  const std::uint32_t rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return {static_cast<std::uint16_t>(sign | 0x7e00)};
  if (rest >= 0x477ff000) return {static_cast<std::uint16_t>(sign | 0x7c00)};
  if (rest < 0x38800000) {  // below 2^-14: adding 0.5 rounds to whole numbers of 2^-24
    const std::uint32_t whole = float_as_bits(bits_as_float(rest) + 0.5f) - 0x3f000000;
    return {static_cast<std::uint16_t>(sign | whole)};
  }
  const std::uint32_t rounded = rest + 0xfff + (rest >> 13 & 1);
  return {static_cast<std::uint16_t>(sign | (rounded - 0x38000000) >> 13)};
#endif
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
