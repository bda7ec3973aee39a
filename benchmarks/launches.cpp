// How each kernel is started, printed for benchmarks/machine_code.py: name, threads of a block, bytes
// of shared memory; the rows of sizes that a chip with little shared memory may refuse end with "?".
#include <cstdio>
#include <string>

#include "device/match_backward.h"
#include "device/product.h"

using namespace mafsar;
using namespace mafsar::portable;

namespace {

template <class Value>
const char* name_of();
template <>
const char* name_of<float>() {
  return "float32";
}
template <>
const char* name_of<Float16>() {
  return "float16";
}
template <>
const char* name_of<Bfloat16>() {
  return "bfloat16";
}

void print(const std::string& name, const Launch& launch, const char* end = "") {
  std::printf("%s|%d|%zu|%s\n", name.c_str(), launch.threads, launch.shared_bytes, end);
}

template <class Form>
std::string words() {
  if (!Form::kIsStreamed) return "product, any layout";
  const bool a_deep = Form::kAlongA == Along::kDepth, b_deep = Form::kAlongB == Along::kDepth;
  std::string name = a_deep ? (b_deep ? "product x Wᵀ" : "product grad W") : "product gradᵀ x";
  if constexpr (Form::kIsStreamed) {
    if (Form::kPrepareA == Prepare::kNorm) name += ", norm";
    if (Form::kPrepareA == Prepare::kGelu || Form::kPrepareB == Prepare::kGelu) name += ", gelu";
  }
  return name + (Form::kIsDeep ? ", deep" : ", wide");
}

template <class Value, class... Each>
void products(FormList<Each...>) {
  ProductJob<Value> job{};
  job.rows = job.columns = job.depth = 16;
  const auto one = [&](auto form) {
    using Form = decltype(form);
    if constexpr (Form::kIsStreamed) job.a.prepare = Form::kPrepareA;
    else job.a.prepare = Prepare::kNorm;  // the most that it takes
    print(words<Form>() + ", " + name_of<Value>(), launch_of<Form>(job));
  };
  (one(Each{}), ...);
}

template <class Value>
void adapter(int frames) {
  products<Value>(ProductForms{});
  const std::string value = std::string(", ") + name_of<Value>() + ">";
  for (const bool backward : {false, true}) {
    const std::string way = backward ? "<true" : "<false";
    NormJob<Value> norm{};
    norm.rows = 8;
    print("norm_kernel" + way + value, launch_of(norm));
    AttendJob<Value> attend{};
    attend.clips = 1;
    attend.frames = frames;
    attend.heads = 12;
    print("attend_kernel" + way + value, launch_of(attend, backward));
    GeluJob<Value> gelu{};
    gelu.count = 1024;
    print("gelu_kernel" + way + value, launch_of(gelu));
  }
}

void matching(int frames, const char* end) {
  for (const bool backward : {false, true}) {
    AlignJob align{};
    align.pairs = 100;
    align.rows = align.columns = frames;
    print(backward ? "align_kernel<true>" : "align_kernel<false>", launch_of(align, backward), end);
    MatchJob match{};
    match.rows.frames = match.columns.frames = frames;
    match.rows.videos = match.columns.videos = 100;
    match.batch = match.slices = 1;
    print(backward ? "match_backward_kernel" : "match_kernel", launch_of(match, backward), end);
  }
}

}  // namespace

int main() {
  adapter<float>(32);  // the most frames of the adapter's kernels
  adapter<Float16>(32);
  adapter<Bfloat16>(32);
  matching(8, "");
  matching(64, "?");  // the most frames; mafsar/kernels/torch_ops/matching_cuda.py asks whether they fit
}
