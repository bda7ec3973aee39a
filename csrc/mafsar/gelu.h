// The exact GELU, x * Phi(x), and its slope, Phi(x) + x * phi(x).
//
// erfc is a Chebyshev fit with one exponential (Press et al., Numerical Recipes, section 6.2;
// relative error below 1.2e-7 everywhere), because it vectorises and the one of libm does not.
#pragma once

#include "mafsar/soft_minimum.h"

namespace mafsar {
namespace MAFSAR_ISA {

constexpr float kLog2E = 1.44269504f;

MAFSAR_HD float lane_over(float a, float b) { return a / b; }

// e^-x for x >= 0.
template <class Lane>
MAFSAR_HD Lane exp_negative(Lane x) {
  return exp2_nonpositive(x * Lane(-kLog2E));
}

// Phi(x), the normal distribution function.
template <class Lane>
MAFSAR_HD Lane normal_below(Lane x) {
  const Lane y = lane_abs(x) * Lane(0.70710678f);
  const Lane t = lane_over(Lane(1.0f), lane_fma(y, Lane(0.5f), Lane(1.0f)));
  Lane p(0.17087277f);
  p = lane_fma(p, t, Lane(-0.82215223f));
  p = lane_fma(p, t, Lane(1.48851587f));
  p = lane_fma(p, t, Lane(-1.13520398f));
  p = lane_fma(p, t, Lane(0.27886807f));
  p = lane_fma(p, t, Lane(-0.18628806f));
  p = lane_fma(p, t, Lane(0.09678418f));
  p = lane_fma(p, t, Lane(0.37409196f));
  p = lane_fma(p, t, Lane(1.00002368f));
  p = lane_fma(p, t, Lane(-1.26551223f));
  // Rounding may leave y * y - p slightly below 0, outside the domain of the exponential.
  const Lane power = lane_fma(y, y, Lane(0.0f) - p);
  const Lane outside = Lane(0.5f) * t * exp_negative(lane_if_negative(power, Lane(0.0f), power));
  return lane_if_negative(x, outside, Lane(1.0f) - outside);
}

template <class Lane>
MAFSAR_HD Lane gelu(Lane x) {
  return x * normal_below(x);
}

template <class Lane>
MAFSAR_HD Lane gelu_slope(Lane x) {
  const Lane density = Lane(0.39894228f) * exp_negative(x * x * Lane(0.5f));
  return lane_fma(x, density, normal_below(x));
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
