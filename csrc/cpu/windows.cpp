// Launcher of the windows of an archive: divides the prototypes by their norms, arranges them in
// panels for the product once a call, and distributes blocks of windows over threads.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/kernels.h"
#include "cpu/threads.h"
#include "mafsar/matching.h"

namespace mafsar {
namespace {

// Frames of prototypes whose distances to a block of windows are held at once: they stay in the
// second-level cache.
constexpr int kGroupColumns = 192;

int rounded_up(int count, int step) { return (count + step - 1) / step * step; }

// Panels of all groups; a group's last panel is padded with zeros to whole vectors. They start at a
// cache line: a vector that lies in two takes two loads.
class Panels {
 public:
  explicit Panels(std::size_t floats) : memory_(floats + kLine - 1) {
    const auto at = reinterpret_cast<std::uintptr_t>(memory_.data()) / sizeof(float) % kLine;
    data_ = memory_.data() + (kLine - at) % kLine;
  }
  Panels(Panels&&) = default;  // a moved vector keeps its place in memory
  float* data() const { return data_; }

 private:
  static constexpr std::size_t kLine = 16;  // floats in a cache line
  std::vector<float> memory_;
  float* data_;
};

Panels packed(const Kernels& isa, const float* prototypes, const WindowSizes& sizes, int depth,
              int group) {
  const int panel = isa.rows.panel_rows;
  std::vector<float> norms(static_cast<std::size_t>(panel));
  std::vector<float> units(static_cast<std::size_t>(panel) * static_cast<std::size_t>(depth));
  const int lanes = rounded_up(group * sizes.columns, isa.width);
  const std::int64_t groups = (sizes.classes + group - 1) / group;
  Panels panels(static_cast<std::size_t>(groups * lanes * depth));
  float* to = panels.data();
  for (int c = 0; c < sizes.classes; c += group) {
    const int frames = std::min(group, sizes.classes - c) * sizes.columns;
    for (int first = 0; first < frames; first += panel) {
      const int count = std::min(panel, frames - first);
      const float* from =
          prototypes + (static_cast<std::int64_t>(c) * sizes.columns + first) * depth;
      isa.inverse_norms(from, count, depth, norms.data());
      for (int i = 0; i < count; ++i) {
        const float norm = norms[static_cast<std::size_t>(i)];
        const std::int64_t row = static_cast<std::int64_t>(i) * depth;
        for (int e = 0; e < depth; ++e) {
          units[static_cast<std::size_t>(row + e)] = from[row + e] * norm;
        }
      }
      isa.rows.pack_panel(units.data(), count, depth, to);
      to += static_cast<std::int64_t>(rounded_up(count, isa.width)) * depth;
    }
  }
  return panels;
}

}  // namespace

void windows_cpu(const Alignment& how, const WindowViews& views, const std::uint16_t* features,
                 const float* prototypes, WindowSizes sizes, float* scores) {
  if (sizes.windows == 0 || sizes.classes == 0) return;
  const Kernels& isa = kernels();
  const int depth = views.mean ? 2 * sizes.width : sizes.width;
  const int group = std::max(1, std::min(sizes.classes, kGroupColumns / sizes.columns));
  const Panels panels = packed(isa, prototypes, sizes, depth, group);
  const WindowsJob job{how,          views,         features,    panels.data(), scores,
                       sizes.frames, sizes.columns, sizes.width, sizes.classes, group};
  const std::size_t floats =
      isa.windows_scratch(sizes.frames, depth, group * sizes.columns, sizes.columns);
  const std::int64_t block = 2 * isa.width;
  auto task = [&](int i) {
    const Scratch scratch(floats);
    const std::int64_t first = i * block;
    isa.windows_forward(job, first, static_cast<int>(std::min(block, sizes.windows - first)),
                        scratch.data());
  };
  const int blocks = static_cast<int>((sizes.windows + block - 1) / block);
  if (get_num_threads() == 1) {
    for (int i = 0; i < blocks; ++i) task(i);
  } else {
    parallel_for(blocks, task);
  }
}

}  // namespace mafsar
