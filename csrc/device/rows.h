// The temporal adapter between its products: layer norm, attention and GELU, with one warp per row
// or head. Every value is read once and written once; the attention weights (T × T) are in shared
// memory. At the usual sizes, a few clips of 8 frames, the launches take most of the time.
#pragma once

#include "device/team.h"
#include "mafsar/adapter_jobs.h"

namespace mafsar {
namespace MAFSAR_ISA {

constexpr int kRowThreads = 128;
constexpr int kRowWarps = kRowThreads / kWarp;
constexpr int kGeluInThread = 4;

MAFSAR_HD std::int64_t parts_of(std::int64_t count, std::int64_t each) {
  return (count + each - 1) / each;
}

template <class Value>
Launch launch_of(const NormJob<Value>& job) {
  return {parts_of(job.rows, kRowWarps), 1, kRowThreads, 0};
}

template <class Value>
Launch launch_of(const AttendJob<Value>& job, bool backward) {
  const std::size_t cells = static_cast<std::size_t>(job.frames) * job.frames;
  return {parts_of(job.clips * job.heads, kRowWarps), 1, kRowThreads,
          sizeof(float) * kRowWarps * cells * (backward ? 2 : 1)};
}

template <class Value>
Launch launch_of(const GeluJob<Value>& job) {
  return {parts_of(job.count, kRowThreads * kGeluInThread), 1, kRowThreads, 0};
}

template <bool kBackward, class Threads, class Value>
MAFSAR_HD void norm_body(const Threads& on, const NormJob<Value>& job) {
  const std::int64_t row = on.block_x() * kRowWarps + on.thread() / kWarp;
  if (row >= job.rows) return;
  const WarpTeam<Threads> team{on};
  const std::int64_t at = row * job.width;
  if (kBackward) {
    norm_row_backward(team, job.grad + at, job.skip + at, job.x + at, job.weight, job.width,
                      job.eps, job.out + at);
  } else {
    norm_row(team, job.x + at, job.weight, job.bias, job.width, job.eps, job.out + at);
  }
}

template <bool kBackward, class Threads, class Value>
MAFSAR_HD void attend_body(const Threads& on, const AttendJob<Value>& job) {
  const int warp = on.thread() / kWarp;
  const std::int64_t task = on.block_x() * kRowWarps + warp;
  if (task >= job.clips * job.heads) return;
  const std::int64_t clip = task / job.heads;
  const int own = job.width / job.heads;
  const int head = static_cast<int>(task - clip * job.heads);
  const std::int64_t row = clip * job.frames;
  const std::int64_t stride = 3 * static_cast<std::int64_t>(job.width);
  const std::int64_t in_qkv = row * stride + head * own;
  const std::int64_t in_tokens = row * job.width + head * own;
  const Value* q = job.qkv + in_qkv;
  const Head<Value> of{q,
                       q + job.width,
                       q + 2 * job.width,
                       stride,
                       job.frames,
                       own,
                       inverse_root(static_cast<float>(own))};
  const int cells = job.frames * job.frames;
  float* scratch = static_cast<float*>(on.shared()) + warp * cells * (kBackward ? 2 : 1);
  const WarpTeam<Threads> team{on};
  if (kBackward) {
    Value* grad_q = job.out + in_qkv;
    attend_backward(team, of, job.grad + in_tokens, job.width, scratch, grad_q, grad_q + job.width,
                    grad_q + 2 * job.width);
  } else {
    attend(team, of, scratch, job.out + in_tokens, job.width);
  }
}

template <bool kBackward, class Threads, class Value>
MAFSAR_HD void gelu_body(const Threads& on, const GeluJob<Value>& job) {
  const std::int64_t first = on.block_x() * kRowThreads * kGeluInThread + on.thread();
  for (int i = 0; i < kGeluInThread; ++i) {
    const std::int64_t at = first + i * kRowThreads;
    if (at >= job.count) return;
    const float x = to_float(job.x[at]);
    const float out = kBackward ? to_float(job.grad[at]) * gelu_slope(x) : gelu(x);
    job.out[at] = from_float<Value>(out);
  }
}

}  // namespace MAFSAR_ISA
}  // namespace mafsar
