// Drivers of the temporal adapter's rows: cut the work into clips, hand the clips to threads.
#include "mafsar/adapter.h"

#include "cpu/kernels.h"
#include "cpu/threads.h"
#include "mafsar/matching.h"

namespace mafsar {
namespace {

// Numbers touched below which a second thread costs more than it brings. High, because the
// products on either side run on another library's threads, which spin for a while afterwards.
constexpr std::int64_t kNumbersForThreads = 1 << 18;

std::int64_t rows_of(TokenSizes sizes) { return sizes.clips * sizes.frames; }

// function(first clip, count), over all clips.
template <class Function>
void each_part(std::int64_t clips, std::int64_t numbers, const Function& function) {
  const std::int64_t threads = numbers < kNumbersForThreads ? 1 : get_num_threads();
  const std::int64_t parts = threads < clips ? threads : clips;
  if (parts <= 1) {
    if (clips > 0) function(0, clips);
    return;
  }
  auto task = [&](int part) {
    const std::int64_t begin = clips * part / parts;
    function(begin, clips * (part + 1) / parts - begin);
  };
  parallel_for(static_cast<int>(parts), task);
}

}  // namespace

void norm_rows_cpu(const float* x, const float* weight, const float* bias, TokenSizes sizes,
                   float eps, float* normed) {
  kernels().rows.norm_rows(x, weight, bias, rows_of(sizes), sizes.width, eps, normed);
}

void norm_rows_backward_cpu(const float* grad, const float* skip, const float* x,
                            const float* weight, TokenSizes sizes, float eps, float* out) {
  kernels().rows.norm_rows_backward(grad, skip, x, weight, rows_of(sizes), sizes.width, eps, out);
}

void attend_cpu(const float* qkv, TokenSizes sizes, float* mixed) {
  const RowKernels& isa = kernels().rows;
  const std::int64_t clip = static_cast<std::int64_t>(sizes.frames) * sizes.width;
  each_part(sizes.clips, 3 * sizes.clips * clip, [&](std::int64_t first, std::int64_t count) {
    const Scratch scratch(static_cast<std::size_t>(sizes.frames) * sizes.frames);
    for (std::int64_t i = first; i < first + count; ++i) {
      isa.attend(qkv + 3 * i * clip, sizes.frames, sizes.heads, sizes.width, scratch.data(),
                 mixed + i * clip);
    }
  });
}

void attend_backward_cpu(const float* grad, const float* qkv, TokenSizes sizes, float* grad_qkv) {
  const RowKernels& isa = kernels().rows;
  const std::int64_t clip = static_cast<std::int64_t>(sizes.frames) * sizes.width;
  each_part(sizes.clips, 6 * sizes.clips * clip, [&](std::int64_t first, std::int64_t count) {
    const Scratch scratch(2 * static_cast<std::size_t>(sizes.frames) * sizes.frames);
    for (std::int64_t i = first; i < first + count; ++i) {
      isa.attend_backward(grad + i * clip, qkv + 3 * i * clip, sizes.frames, sizes.heads,
                          sizes.width, scratch.data(), grad_qkv + 3 * i * clip);
    }
  });
}

void gelu_cpu(const float* x, std::int64_t count, float* out) {
  kernels().rows.gelu(x, count, out);
}

void gelu_backward_cpu(const float* grad, const float* x, std::int64_t count, float* grad_x) {
  kernels().rows.gelu_backward(grad, x, count, grad_x);
}

void linear_cpu(const float* x, const float* weight, const float* bias, int rows, int inputs,
                int outputs, float* out) {
  const RowKernels& isa = kernels().rows;
  const std::int64_t numbers = static_cast<std::int64_t>(inputs) * outputs;
  const int parts = rows == 0 || numbers < kNumbersForThreads ? 1 : get_num_threads();
  // Columns in even numbers, so that two rows of W go together.
  const int step = ((outputs + parts - 1) / parts + 1) / 2 * 2;
  auto task = [&](int part) {
    const int first = part * step;
    const int last = first + step < outputs ? first + step : outputs;
    if (first < last) isa.linear(x, weight, bias, rows, inputs, outputs, first, last, out);
  };
  if (parts == 1) {
    task(0);
  } else {
    parallel_for(parts, task);
  }
}

}  // namespace mafsar
