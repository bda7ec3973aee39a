// Launchers of the temporal adapter: split the work by rows, heads or columns over threads.
#include "mafsar/adapter.h"

#include <algorithm>

#include "cpu/kernels.h"
#include "cpu/threads.h"
#include "mafsar/adapter_steps.h"
#include "mafsar/matching.h"

namespace mafsar {
namespace {

using namespace portable;

// Below this many values read and written, a second thread costs more than it saves.
constexpr std::int64_t kNumbersForThreads = 1 << 14;
// Up to this many rows, those of one clip, W is streamed (csrc/cpu/stream_kernels.h).
constexpr int kFewRows = 8;
// Parts of a product for each thread, so that a thread that starts late still finds work.
constexpr int kPartsEach = 4;

int threads_for(std::int64_t numbers) {
  return numbers < kNumbersForThreads ? 1 : get_num_threads();
}

// Calls function(first, last) over [0, count) in at most `parts` parts, in multiples of `step`.
template <class Function>
void each_part(std::int64_t count, std::int64_t parts, std::int64_t step,
               const Function& function) {
  const std::int64_t each = ((count + parts - 1) / parts + step - 1) / step * step;
  if (count <= each) {
    if (count > 0) function(std::int64_t{0}, count);
    return;
  }
  auto task = [&](int part) {
    const std::int64_t first = part * each;
    function(first, std::min(first + each, count));
  };
  parallel_for(static_cast<int>((count + each - 1) / each), task);
}

std::int64_t rows_of(TokenSizes sizes) { return sizes.clips * sizes.frames; }

// Rows [first, first + count) of an operand, (…, width), after the operation `how`. The result is
// in `room`, or is the operand itself if there is no operation.
const float* prepared(const ProductJob<float>& job, Prepare how, const float* rows, int width,
                      std::int64_t first, std::int64_t count, float* room) {
  const RowKernels& isa = kernels().rows;
  const float* x = rows + first * width;
  if (how == Prepare::kNothing) return x;
  if (how == Prepare::kNorm) {
    isa.norm_rows(x, job.norm_weight, job.norm_bias, count, width, job.eps, room);
  } else {
    isa.gelu(x, count * width, room);
  }
  return room;
}

std::size_t panel_floats(std::int64_t rows, int width) {
  const std::int64_t each = kernels().rows.panel_rows;
  return static_cast<std::size_t>((rows + each - 1) / each * each * width);
}

// Packs A's prepared rows into panels of panel_floats(job.rows, job.depth); `room` is as large as
// A.
void pack_panels(const ProductJob<float>& job, std::int64_t parts, float* room, float* panels) {
  const RowKernels& isa = kernels().rows;
  const std::int64_t rows = job.rows, width = job.depth, each = isa.panel_rows;
  each_part((rows + each - 1) / each, parts, 1, [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t row = first * each; row < std::min(last * each, rows); row += each) {
      const std::int64_t count = std::min(each, rows - row);
      const float* x =
          prepared(job, job.a.prepare, job.a.values, job.depth, row, count, room + row * width);
      isa.pack_panel(x, static_cast<int>(count), job.depth, panels + row * width);
    }
  });
}

// x Wᵀ + b of the prepared x.
void linear(const ProductJob<float>& job) {
  const RowKernels& isa = kernels().rows;
  const int rows = job.rows, inputs = job.depth, outputs = job.columns;
  const std::int64_t parts =
      std::int64_t{kPartsEach} * threads_for(static_cast<std::int64_t>(inputs) * outputs);
  const bool few = rows <= kFewRows;
  const std::size_t packed = few ? 0 : panel_floats(rows, inputs);
  const Scratch scratch(packed + static_cast<std::size_t>(rows) * inputs);
  float* room = scratch.data() + packed;
  const float* x = scratch.data();
  if (few) {
    x = prepared(job, job.a.prepare, job.a.values, inputs, 0, rows, room);
  } else {
    pack_panels(job, parts, room, scratch.data());
  }
  each_part(outputs, parts, 16, [&](std::int64_t begin, std::int64_t end) {
    const int first = static_cast<int>(begin), last = static_cast<int>(end);
    const auto run = few ? isa.linear_of_few : isa.linear_of_panels;
    run(x, job.b.values, job.bias, rows, inputs, outputs, first, last, job.out);
    for (std::int64_t row = 0; job.skip && row < rows; ++row) {
      for (std::int64_t n = first; n < last; ++n) {
        job.out[row * outputs + n] += job.skip[row * outputs + n];
      }
    }
  });
}

// grad W, times the slope of the GELU if the product's inputs are the result of one.
void grad_of_inputs(const ProductJob<float>& job) {
  const RowKernels& isa = kernels().rows;
  const int rows = job.rows, inputs = job.columns, outputs = job.depth;
  const auto numbers = static_cast<std::int64_t>(inputs) * outputs;
  // One part for each thread, because longer runs of a row of W stream faster.
  each_part(inputs, threads_for(numbers), 16, [&](std::int64_t first, std::int64_t last) {
    isa.grad_of_few(job.a.values, job.b.values, rows, inputs, outputs, static_cast<int>(first),
                    static_cast<int>(last), job.out);
  });
  if (job.hidden) gelu_backward_cpu(job.out, job.hidden, std::int64_t{rows} * inputs, job.out);
}

// gradᵀ x of the prepared x, and the sums of grad's columns.
void grad_of_weight(const ProductJob<float>& job) {
  const RowKernels& isa = kernels().rows;
  const int rows = job.depth, inputs = job.columns, outputs = job.rows;
  const auto numbers = static_cast<std::int64_t>(inputs) * outputs;
  const Scratch scratch(static_cast<std::size_t>(rows) * inputs);
  const float* x = prepared(job, job.b.prepare, job.b.values, inputs, 0, rows, scratch.data());
  const std::int64_t parts = std::int64_t{kPartsEach} * threads_for(numbers);
  each_part(outputs, parts, 16, [&](std::int64_t first, std::int64_t last) {
    isa.weight_grad(job.a.values, x, rows, inputs, outputs, static_cast<int>(first),
                    static_cast<int>(last), job.out, job.sums);
  });
}

// Runs the jobs of csrc/mafsar/adapter_steps.h, each on several threads.
struct OnThreads {
  void operator()(const NormJob<float>& job, bool backward) const {
    const TokenSizes sizes{job.rows, 1, 1, job.width};
    if (backward) {
      norm_rows_backward_cpu(job.grad, job.skip, job.x, job.weight, sizes, job.eps, job.out);
    } else {
      norm_rows_cpu(job.x, job.weight, job.bias, sizes, job.eps, job.out);
    }
  }
  void operator()(const AttendJob<float>& job, bool backward) const {
    const TokenSizes sizes{job.clips, job.frames, job.heads, job.width};
    if (backward) {
      attend_backward_cpu(job.grad, job.qkv, sizes, job.out);
    } else {
      attend_cpu(job.qkv, sizes, job.out);
    }
  }
  void operator()(const ProductJob<float>& job) const {
    switch (job.kind) {
      case ProductKind::kLinear:
        linear(job);
        return;
      case ProductKind::kGradOfInputs:
        grad_of_inputs(job);
        return;
      case ProductKind::kGradOfWeight:
        grad_of_weight(job);
        return;
    }
  }
};

}  // namespace

void adapter_cpu(const float* c, const AdapterWeights& weights, TokenSizes sizes, int hidden,
                 float eps, const AdapterKept& kept, float* out) {
  if (rows_of(sizes) == 0) return;
  const OnThreads runner;
  const AdapterSteps<float, OnThreads> steps{runner, sizes, hidden, eps};
  steps.forward(c, weights, kept, out);
}

void adapter_backward_cpu(const float* grad, const float* c, const AdapterWeights& weights,
                          const AdapterKept& kept, TokenSizes sizes, int hidden, float eps,
                          int depth, const AdapterScratch& scratch, const AdapterGrads& grads) {
  const OnThreads runner;
  const AdapterSteps<float, OnThreads> steps{runner, sizes, hidden, eps};
  steps.backward(grad, c, weights, kept, depth, scratch, grads);
}

void norm_rows_cpu(const float* x, const float* weight, const float* bias, TokenSizes sizes,
                   float eps, float* normed) {
  const std::int64_t rows = rows_of(sizes), width = sizes.width;
  each_part(rows, threads_for(rows * width), 1, [&](std::int64_t first, std::int64_t last) {
    kernels().rows.norm_rows(x + first * width, weight, bias, last - first, sizes.width, eps,
                             normed + first * width);
  });
}

void norm_rows_backward_cpu(const float* grad, const float* skip, const float* x,
                            const float* weight, TokenSizes sizes, float eps, float* out) {
  const std::int64_t rows = rows_of(sizes), width = sizes.width;
  each_part(rows, threads_for(3 * rows * width), 1, [&](std::int64_t first, std::int64_t last) {
    const std::int64_t at = first * width;
    kernels().rows.norm_rows_backward(grad + at, skip + at, x + at, weight, last - first,
                                      sizes.width, eps, out + at);
  });
}

void attend_cpu(const float* qkv, TokenSizes sizes, float* mixed) {
  const RowKernels& isa = kernels().rows;
  const std::int64_t clip = static_cast<std::int64_t>(sizes.frames) * sizes.width;
  const std::int64_t parts = std::int64_t{kPartsEach} * threads_for(4 * sizes.clips * clip);
  each_part(sizes.clips * sizes.heads, parts, 1, [&](std::int64_t first, std::int64_t last) {
    const Scratch scratch(static_cast<std::size_t>(sizes.frames) * sizes.frames);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t i = task / sizes.heads;
      const int head = static_cast<int>(task - i * sizes.heads);
      isa.attend(qkv + 3 * i * clip, sizes.frames, sizes.heads, sizes.width, head, scratch.data(),
                 mixed + i * clip);
    }
  });
}

void attend_backward_cpu(const float* grad, const float* qkv, TokenSizes sizes, float* grad_qkv) {
  const RowKernels& isa = kernels().rows;
  const std::int64_t clip = static_cast<std::int64_t>(sizes.frames) * sizes.width;
  const std::int64_t parts = std::int64_t{kPartsEach} * threads_for(7 * sizes.clips * clip);
  each_part(sizes.clips * sizes.heads, parts, 1, [&](std::int64_t first, std::int64_t last) {
    const Scratch scratch(2 * static_cast<std::size_t>(sizes.frames) * sizes.frames);
    for (std::int64_t task = first; task < last; ++task) {
      const std::int64_t i = task / sizes.heads;
      const int head = static_cast<int>(task - i * sizes.heads);
      isa.attend_backward(grad + i * clip, qkv + 3 * i * clip, sizes.frames, sizes.heads,
                          sizes.width, head, scratch.data(), grad_qkv + 3 * i * clip);
    }
  });
}

void gelu_cpu(const float* x, std::int64_t count, float* out) {
  each_part(count, threads_for(2 * count), 16, [&](std::int64_t first, std::int64_t last) {
    kernels().rows.gelu(x + first, last - first, out + first);
  });
}

void gelu_backward_cpu(const float* grad, const float* x, std::int64_t count, float* grad_x) {
  each_part(count, threads_for(3 * count), 16, [&](std::int64_t first, std::int64_t last) {
    kernels().rows.gelu_backward(grad + first, x + first, last - first, grad_x + first);
  });
}

}  // namespace mafsar
