// Launchers of the ops on features: split the videos into blocks and distribute them over threads.
//
// The side with more videos gives the rows, which are split over threads; this is valid because
// both metrics are symmetric in their sides. Forward, blocks are independent. Backward, only one
// block writes the gradients of a row, and of a column if the block holds whole episodes. With
// fewer episodes than threads, the rows of an episode are split; each part sums the gradients of
// the columns into its own array, and the arrays are added at the end in a fixed order. So a result
// depends on the number of threads, but never on their timing.
#include <cstring>
#include <utility>

#include "cpu/kernels.h"
#include "cpu/stretches.h"
#include "cpu/threads.h"
#include "mafsar/matching.h"

namespace mafsar {
namespace {

// Pairs in a block: their videos (usually 5 per side and episode) stay in the second-level cache.
constexpr std::int64_t kPairsInBlock = 256;
// Below this number of multiply-adds a second thread costs more than it saves: about 25 µs of work.
constexpr std::int64_t kProductsForThreads = 1 << 20;
constexpr float kClampedNorm = 1e6f;

struct Side {
  const float* features;
  const std::int64_t* lengths;
  float* grad;
  std::int64_t each;  // videos in an episode
  int frames;
};

struct Job {
  Side rows, columns;
  std::int64_t batch;
  std::int64_t row_stride, column_stride;
  int width;
  Alignment how;
  const float* grad;
  float* scores;
};

struct Block {
  std::int64_t first_row, row_count;
  float* column_grad;  // gradient of the first column video of the first episode
};

std::int64_t values(const Side& side, int width, std::int64_t videos) {
  return videos * side.frames * width;
}

Job make_job(const Features& features, FeatureSizes sizes, const Alignment& how, const float* grad,
             float* grad_query, float* grad_prototypes, float* scores) {
  Side query{features.query, features.query_lengths, grad_query, sizes.queries, sizes.rows};
  Side prototypes{features.prototypes, features.prototype_lengths, grad_prototypes, sizes.classes,
                  sizes.columns};
  if (sizes.queries >= sizes.classes) {
    return {query, prototypes, sizes.batch, sizes.classes, 1, sizes.width, how, grad, scores};
  }
  return {prototypes, query, sizes.batch, 1, sizes.classes, sizes.width, how, grad, scores};
}

// Adds r(x)^2 * along * x to the gradient of each frame whose norm was not clamped.
void add_along(const Kernels& isa, const Videos& videos, std::int64_t count, int width) {
  const std::int64_t frames = count * videos.frames;
  for (std::int64_t i = 0; i < frames; ++i) {
    const float norm = videos.inverse_norms[i];
    // Padding frames have along = 0, whatever their features are.
    if (videos.along[i] == 0.0f || norm == kClampedNorm) continue;
    const float factor = norm * norm * videos.along[i];
    isa.add_scaled(videos.features + i * width, &factor, 1, width, videos.grad + i * width);
  }
}

void run_block(const Kernels& isa, const Job& job, const Block& block, bool backward) {
  const std::int64_t first_episode = block.first_row / job.rows.each;
  const std::int64_t last_episode = (block.first_row + block.row_count - 1) / job.rows.each;
  const std::int64_t first_column = first_episode * job.columns.each;
  const std::int64_t column_count = (last_episode - first_episode + 1) * job.columns.each;
  const auto row_frames = static_cast<std::size_t>(block.row_count * job.rows.frames);
  const auto column_frames = static_cast<std::size_t>(column_count * job.columns.frames);
  const std::size_t tile =
      (isa.scratch_floats(job.rows.frames, job.columns.frames, backward) + 15) / 16 * 16;
  const Scratch scratch(tile + 2 * (row_frames + column_frames));
  float* norms = scratch.data() + tile;
  float* along = norms + row_frames + column_frames;

  const std::int64_t row_start = values(job.rows, job.width, block.first_row);
  const std::int64_t column_start = values(job.columns, job.width, first_column);
  PairsOfVideos pairs{};
  pairs.rows = {job.rows.features + row_start, norms,
                backward ? job.rows.grad + row_start : nullptr, along, job.rows.frames};
  pairs.columns = {job.columns.features + column_start, norms + row_frames, block.column_grad,
                   along + row_frames, job.columns.frames};
  pairs.first_row = block.first_row;
  pairs.first_episode = first_episode;
  pairs.rows_each = job.rows.each;
  pairs.columns_each = job.columns.each;
  pairs.row_stride = job.row_stride;
  pairs.column_stride = job.column_stride;
  pairs.grad = job.grad;
  pairs.scores = job.scores;
  pairs.width = job.width;

  isa.inverse_norms(pairs.rows.features, static_cast<std::int64_t>(row_frames), job.width, norms);
  isa.inverse_norms(pairs.columns.features, static_cast<std::int64_t>(column_frames), job.width,
                    norms + row_frames);
  if (backward) {
    std::memset(along, 0, sizeof(float) * (row_frames + column_frames));
    std::memset(pairs.rows.grad, 0,
                sizeof(float) * row_frames * static_cast<std::size_t>(job.width));
    std::memset(pairs.columns.grad, 0,
                sizeof(float) * column_frames * static_cast<std::size_t>(job.width));
  }

  const std::int64_t count = block.row_count * job.columns.each;
  Stretches stretches;
  if (job.rows.lengths || job.columns.lengths) {
    const auto size_of = [&](std::int64_t pair) {
      const std::int64_t row = block.first_row + pair / job.columns.each;
      const std::int64_t column = row / job.rows.each * job.columns.each + pair % job.columns.each;
      return std::make_pair(
          job.rows.lengths ? job.rows.lengths[row] : std::int64_t{job.rows.frames},
          job.columns.lengths ? job.columns.lengths[column] : std::int64_t{job.columns.frames});
    };
    stretches_by_size(count, size_of, &stretches);
  } else {
    one_stretch(count, job.rows.frames, job.columns.frames, &stretches);
  }
  auto run = backward ? isa.videos_backward : isa.videos_forward;
  for (const Stretch& stretch : stretches.list) run(pairs, job.how, stretch, scratch.data());
  if (backward) {
    add_along(isa, pairs.rows, block.row_count, job.width);
    add_along(isa, pairs.columns, column_count, job.width);
  }
}

int threads_for(const Job& job, std::int64_t pairs) {
  const std::int64_t products = pairs * job.rows.frames * job.columns.frames * (job.width + 32);
  return products < kProductsForThreads ? 1 : get_num_threads();
}

void run_blocks(const Job& job, const std::vector<Block>& blocks, int threads, bool backward) {
  const Kernels& isa = kernels();
  const int count = static_cast<int>(blocks.size());
  auto task = [&](int i) { run_block(isa, job, blocks[static_cast<std::size_t>(i)], backward); };
  if (threads == 1) {
    for (int i = 0; i < count; ++i) task(i);
  } else {
    parallel_for(count, task);
  }
}

void forward(const Job& job) {
  const std::int64_t rows = job.batch * job.rows.each;
  if (rows == 0 || job.columns.each == 0) return;
  const int threads = threads_for(job, rows * job.columns.each);
  std::int64_t step = std::max<std::int64_t>(1, kPairsInBlock / job.columns.each);
  if (threads > 1) step = std::min(step, (rows + 2 * threads - 1) / (2 * threads));
  std::vector<Block> blocks;
  for (std::int64_t row = 0; row < rows; row += step) {
    blocks.push_back({row, std::min(step, rows - row), nullptr});
  }
  run_blocks(job, blocks, threads, false);
}

void backward(const Job& job) {
  const std::int64_t rows = job.batch * job.rows.each;
  const std::int64_t columns = job.batch * job.columns.each;
  if (rows == 0 || columns == 0) {
    std::memset(job.rows.grad, 0,
                sizeof(float) * static_cast<std::size_t>(values(job.rows, job.width, rows)));
    std::memset(job.columns.grad, 0,
                sizeof(float) * static_cast<std::size_t>(values(job.columns, job.width, columns)));
    return;
  }
  const int threads = threads_for(job, rows * job.columns.each);
  const std::int64_t column_values = values(job.columns, job.width, job.columns.each);
  std::vector<Block> blocks;
  if (job.batch >= threads) {
    const std::int64_t in_episode = job.rows.each * job.columns.each;
    std::int64_t step = std::max<std::int64_t>(1, kPairsInBlock / in_episode);
    step = std::min(step, (job.batch + threads - 1) / threads);
    for (std::int64_t episode = 0; episode < job.batch; episode += step) {
      const std::int64_t count = std::min(step, job.batch - episode);
      blocks.push_back({episode * job.rows.each, count * job.rows.each,
                        job.columns.grad + episode * column_values});
    }
    run_blocks(job, blocks, threads, true);
    return;
  }
  const std::int64_t parts = std::min<std::int64_t>(threads, job.rows.each);
  std::vector<float> others(static_cast<std::size_t>((parts - 1) * job.batch * column_values));
  for (std::int64_t episode = 0; episode < job.batch; ++episode) {
    for (std::int64_t part = 0; part < parts; ++part) {
      const std::int64_t begin = job.rows.each * part / parts;
      const std::int64_t end = job.rows.each * (part + 1) / parts;
      float* grad = part == 0 ? job.columns.grad + episode * column_values
                              : others.data() + ((part - 1) * job.batch + episode) * column_values;
      blocks.push_back({episode * job.rows.each + begin, end - begin, grad});
    }
  }
  run_blocks(job, blocks, threads, true);
  const std::int64_t all = job.batch * column_values;
  for (std::int64_t part = 1; part < parts; ++part) {
    const float* other = others.data() + (part - 1) * all;
    for (std::int64_t i = 0; i < all; ++i) job.columns.grad[i] += other[i];
  }
}

}  // namespace

void match_cpu(const Alignment& how, const Features& features, FeatureSizes sizes, float* scores) {
  forward(make_job(features, sizes, how, nullptr, nullptr, nullptr, scores));
}

void match_backward_cpu(const Alignment& how, const float* grad, const Features& features,
                        FeatureSizes sizes, float* grad_query, float* grad_prototypes) {
  backward(make_job(features, sizes, how, grad, grad_query, grad_prototypes, nullptr));
}

}  // namespace mafsar
