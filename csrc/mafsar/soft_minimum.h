// Soft minimum of two costs in minimum-first form, and its gradient.
//
//   softmin(a, b) = m - lam * log(1 + exp(-|a - b| / lam)),  m = min(a, b)
//
// The difference is computed before the division by lam: with costs of 1e4 and lam = 1e-3, a/lam -
// b/lam would lose all its digits. exp and log are polynomials (minimax, fitted by reweighted
// least squares in extended precision), each within 2 units in the last place. Those of libm
// take ten times as long and do not vectorise.
#pragma once

#include "mafsar/lane.h"

namespace mafsar {
namespace MAFSAR_ISA {

struct SoftMinimum {
  float lam;
  float rate;  // log2(e) / lam: exponentials are taken to base 2
};

MAFSAR_HD SoftMinimum make_soft_minimum(double lam) {
  return {static_cast<float>(lam), static_cast<float>(1.4426950408889634 / lam)};
}

// 2^z for z <= 0, at least 2^-126, which is negligible next to 1.
template <class Lane>
MAFSAR_HD Lane exp2_nonpositive(Lane z) {
  // Adding 1.5 * 2^23 rounds to whole numbers; + 127 leaves the biased exponent in the low bits.
  const Lane rounder(12583039.0f);
  z = lane_at_least(-126.0f, z);
  const Lane shifted = rounder + z;
  const Lane f = z - (shifted - rounder);  // in [-0.5, 0.5], exact
  const Lane f2 = f * f;
  const Lane p01 = lane_fma(Lane(0.24022648f), f, Lane(0.6931472f));
  const Lane p23 = lane_fma(Lane(0.009618437f), f, Lane(0.055503324f));
  const Lane p45 = lane_fma(Lane(0.0001535336f), f, Lane(0.0013398875f));
  const Lane p = lane_fma(lane_fma(p45, f2, p23), f2, p01);
  return lane_fma(f, p, Lane(1.0f)) * lane_exponent(shifted);
}

// log(1 + e) / e for 0 <= e <= 1.
template <class Lane>
MAFSAR_HD Lane log1p_ratio(Lane e) {
  const Lane e2 = e * e;
  const Lane e4 = e2 * e2;
  const Lane p01 = lane_fma(Lane(-0.49999902f), e, Lane(1.0f));
  const Lane p23 = lane_fma(Lane(-0.24954133f), e, Lane(0.33329964f));
  const Lane p45 = lane_fma(Lane(-0.1530557f), e, Lane(0.19675931f));
  const Lane p67 = lane_fma(Lane(-0.05695916f), e, Lane(0.10603617f));
  const Lane p89 = lane_fma(Lane(-0.003243981f), e, Lane(0.019851264f));
  const Lane low = lane_fma(p23, e2, p01);
  const Lane high = lane_fma(p67, e2, p45);
  return lane_fma(lane_fma(p89, e4, high), e4, low);
}

// 1 / (1 + e) for 0 <= e <= 1: two Newton steps from the best parabola (off by 1/99), which take a
// third of the time of a vector division.
template <class Lane>
MAFSAR_HD Lane reciprocal_of_one_plus(Lane e) {
  const Lane one(1.0f);
  const Lane minus = Lane(-1.0f) - e;
  Lane r = lane_fma(lane_fma(Lane(32.0f / 99.0f), e, Lane(-80.0f / 99.0f)), e, Lane(98.0f / 99.0f));
  r = lane_fma(r, lane_fma(minus, r, one), r);
  return lane_fma(r, lane_fma(minus, r, one), r);
}

template <class Lane>
struct SoftMinimumStep {
  Lane value;
  Lane e;     // exp(-|difference| / lam), of the larger cost
  Lane sign;  // < 0 where the second is the smaller
};

// plus + softmin(first, second), with `first` counted twice where kTwice: log 2 enters the
// exponent, not the cost, where it would be rounded away next to a large one.
template <bool kTwice, class Lane>
MAFSAR_HD SoftMinimumStep<Lane> soft_minimum(Lane first, Lane second, Lane plus, SoftMinimum with) {
  SoftMinimumStep<Lane> step;
  const Lane minus_lam(-with.lam);
  if (kTwice) {
    step.sign = lane_fma(second - first, Lane(with.rate), Lane(1.0f));
    step.e = exp2_nonpositive(lane_minus_abs(step.sign));
    const Lane base = lane_if_negative(step.sign, second, first) + plus;
    const Lane log2_once = lane_if_negative(step.sign, Lane(0.0f), Lane(0.69314718f));
    step.value = lane_fma(minus_lam, lane_fma(step.e, log1p_ratio(step.e), log2_once), base);
  } else {
    step.sign = second - first;
    step.e = exp2_nonpositive(lane_minus_abs(step.sign) * Lane(with.rate));
    const Lane base = lane_min(first, second) + plus;
    // The order of the products lets the longest chain end in one multiply-add.
    step.value = lane_fma(step.e * minus_lam, log1p_ratio(step.e), base);
  }
  return step;
}

// Gradient of a step with respect to its two costs: the softmax of the same differences.
template <class Lane>
MAFSAR_HD void soft_minimum_weights(const SoftMinimumStep<Lane>& step, Lane* first, Lane* second) {
  const Lane larger = reciprocal_of_one_plus(step.e);
  const Lane smaller = step.e * larger;
  *first = lane_if_negative(step.sign, smaller, larger);
  *second = lane_if_negative(step.sign, larger, smaller);
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
