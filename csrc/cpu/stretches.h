// Groups pairs into stretches of one size, so that a tile never mixes lengths.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cpu/kernels.h"

namespace mafsar {

struct Stretches {
  std::vector<std::int64_t> order;
  std::vector<Stretch> list;
};

// One stretch: all pairs have the stored size.
inline void one_stretch(std::int64_t pairs, int rows, int columns, Stretches* out) {
  out->list.clear();
  if (pairs > 0) out->list.push_back({nullptr, 0, pairs, rows, columns});
}

// `size_of(pair)` returns {rows, columns}. Pairs of one size keep their order.
template <class SizeOf>
void stretches_by_size(std::int64_t pairs, const SizeOf& size_of, Stretches* out) {
  out->order.resize(static_cast<std::size_t>(pairs));
  out->list.clear();
  for (std::int64_t i = 0; i < pairs; ++i) out->order[static_cast<std::size_t>(i)] = i;
  std::stable_sort(out->order.begin(), out->order.end(),
                   [&](std::int64_t a, std::int64_t b) { return size_of(a) < size_of(b); });
  for (std::int64_t start = 0; start < pairs;) {
    const auto size = size_of(out->order[static_cast<std::size_t>(start)]);
    std::int64_t end = start + 1;
    while (end < pairs && size_of(out->order[static_cast<std::size_t>(end)]) == size) ++end;
    out->list.push_back({out->order.data(), start, end - start, static_cast<int>(size.first),
                         static_cast<int>(size.second)});
    start = end;
  }
}

}  // namespace mafsar
