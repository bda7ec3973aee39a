#!/usr/bin/env bash
# Everything that only a GPU can say, in one go: build, test, sanitize, time. Under 8 minutes.
#
#   benchmarks/gpu_check.sh [OUT]      # OUT: where log.txt and the tables go, default build/gpu
#
# Wants nvcc, CMake, ninja and a python3 with torch and numpy; pybind11 comes with torch's headers
# where it is not installed itself, pytest from build/wheels (`pip download pytest -d build/wheels`
# on a machine with a network). Builds beside the sources and puts a tree of links on PYTHONPATH.
# Prints a line for each stage and ends with 1 if one has failed. A stage that the machine cannot
# do (no compute-sanitizer, or one that may not attach; a package that is missing) is "not supported
# on this host". A training step needs safetensors besides torch.
#
#   benchmarks/gpu_check.sh --dry-run [OUT]   # without a GPU: the same stages as far as they go
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD
dry=
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
out=${1:-build/gpu}
mkdir -p "$out" build && out=$(cd "$out" && pwd)
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
: >"$out/log.txt"
python=${PYTHON:-python3}
failed=0

stage() {  # NAME LIMIT_SECONDS COMMAND…
  local name=$1 limit=$2 begin=$SECONDS
  shift 2
  timeout -k 5 "$limit" "$@" >"$logs/$name.log" 2>&1
  local status=$?
  { echo "== $name"; cat "$logs/$name.log"; } >>"$out/log.txt"
  case $status in
    0) echo "$name: ok in $((SECONDS - begin)) s" ;;
    77) echo "$name: not supported on this host: $(tail -n 1 "$logs/$name.log")" ;;
    124 | 137)
      echo "$name: FAILED, cut off after $limit s"
      failed=1
      tail -n 5 "$logs/$name.log"
      ;;
    *)
      echo "$name: FAILED ($status) in $((SECONDS - begin)) s"
      failed=1
      tail -n 15 "$logs/$name.log"
      ;;
  esac
}

build() {
  local pybind
  pybind=$("$python" -m pybind11 --cmakedir 2>/dev/null) || pybind=
  local chip
  chip=$("$python" -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())') || return 1
  local own="$root/build/gpu-module"
  rm -rf "$own" && mkdir -p "$own"
  if [ -n "$pybind" ]; then
    cmake -S "$root" -B "$own" -G Ninja -DSKBUILD_PROJECT_NAME=mafsar -DSKBUILD_PROJECT_VERSION=0 \
      -DCMAKE_BUILD_TYPE=Release -DMAFSAR_CUDA=ON -DCMAKE_CUDA_ARCHITECTURES="$chip" \
      -DPython_EXECUTABLE="$(command -v "$python")" -Dpybind11_DIR="$pybind" || return 1
    cmake --build "$own" || return 1
  else
    by_hand "$own" "$chip" || return 1
  fi
  mkdir -p "$own/path/mafsar"
  ln -sfn "$root"/mafsar/* "$own/path/mafsar/"
  ln -sfn "$root/export" "$own/path/mafsar/export"
  ln -sfn "$own"/_native*.so "$own/path/mafsar/"
}

by_hand() {  # without pybind11's CMake files: the headers that torch brings
  local own=$1 chip=$2 includes suffix
  includes=$("$python" -c 'import sysconfig, torch, pathlib
print("-I" + sysconfig.get_path("include"), "-I" + str(pathlib.Path(torch.__file__).parent / "include"))')
  suffix=$("$python" -c 'import sysconfig; print(sysconfig.get_config_var("EXT_SUFFIX"))')
  local common="-O3 -std=c++17 -fPIC -fvisibility=hidden -DMAFSAR_X86_64 -DMAFSAR_WITH_CUDA -I$root/csrc"
  local objects=() wide="-mavx2 -mfma -mavx512f -mavx512dq -mavx512bw -mavx512vl"
  for file in "$root"/csrc/bindings.cpp "$root"/csrc/cpu/*.cpp; do
    local object flags=
    object="$own/$(basename "$file").o"
    case $file in *avx2*) flags="-mavx2 -mfma" ;; *avx512*) flags=$wide ;; esac
    # shellcheck disable=SC2086
    g++ $common $flags $includes -c "$file" -o "$object" || return 1
    objects+=("$object")
  done
  for file in "$root"/csrc/cuda/*.cu; do
    local object
    object="$own/$(basename "$file").o"
    nvcc -O3 -std=c++17 -gencode "arch=compute_$chip,code=sm_$chip" -Xcompiler=-fPIC \
      "-DMAFSAR_CUDA_ARCHITECTURES=\"$chip\"" -I"$root/csrc" -c "$file" -o "$object" || return 1
    objects+=("$object")
  done
  nvcc -shared -cudart static "${objects[@]}" -o "$own/_native$suffix"
}

sanitize() {  # TOOL: every access is watched, so a script of kernel calls only
  local log="$logs/$1.log" status
  # Every tensor an allocation of its own: within torch's blocks an access beyond its end is valid.
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
    compute-sanitizer --tool "$1" --error-exitcode 9 "$python" "$root/benchmarks/gpu_kernel_calls.py"
  status=$?
  # What the tool says where the machine does not let it attach, as in some virtual machines; 9 is
  # an error that it found.
  if [ $status != 0 ] && [ $status != 9 ] && grep -qiE "not supported|unable to (attach|initialize)|debugger.*not (enabled|available)" "$log"; then
    return 77
  fi
  return $status
}

kernel_tests() {  # from another folder, which `-m` puts before the built module's
  cd "$logs" && "$python" -m pytest -q -c "$ini" --rootdir "$root" "$@" "$root/tests/kernels/test_cuda.py"
}

train() {  # a training step; ours, an honest twin and full tuning
  "$python" -c 'import safetensors' || return 77
  "$python" "$root/benchmarks/train_step.py" --device cuda --model vit-b-16:random --rounds 10 --write
}

# The project's own settings ask for plugins that need not be there.
ini="$logs/pytest.ini"
printf '[pytest]\naddopts = -p no:cacheprovider --import-mode=importlib\n' >"$ini"
tools="$logs/tools"
if ! "$python" -c 'import pytest' 2>/dev/null; then
  "$python" -m pip install --quiet --no-index --find-links "$root/build/wheels" --target "$tools" pytest \
    || { echo "error: pytest is missing; run: pip download pytest -d build/wheels, then bring that folder along" >&2; exit 1; }
  export PYTHONPATH="$tools${PYTHONPATH:+:$PYTHONPATH}"
fi
export -f build by_hand sanitize kernel_tests train
export root python ini logs
if [ -n "$dry" ]; then
  # No GPU: the installed package, the script of kernel calls on the CPU, the tests collected.
  stage calls 120 "$python" benchmarks/gpu_kernel_calls.py --device cpu
  stage collect 120 bash -c 'kernel_tests --collect-only'
  exit $failed
fi
stage build 120 bash -c build
export PYTHONPATH="$root/build/gpu-module/path:$root/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
export MAFSAR_REQUIRE_CUDA=1 PYTHONUNBUFFERED=1
stage test 90 bash -c kernel_tests
for tool in memcheck racecheck synccheck; do
  if command -v compute-sanitizer >/dev/null; then
    stage "$tool" 33 bash -c "sanitize $tool"
  else
    stage "$tool" 5 bash -c 'echo "compute-sanitizer is not installed"; exit 77'
  fi
done
# Python's share of a call on this machine's processor; missed targets are in its log.
stage python 10 bash -c '"$python" "$root/benchmarks/adapter_call.py" --rounds 3 || [ $? = 3 ]'
stage times 100 "$python" benchmarks/kernels.py --rounds 3 --seconds 0.05 --write
stage train 60 bash -c train
# The tables of this run only.
find benchmarks/results -newer "$ini" \( -name 'kernels-*' -o -name train_step_gpu.json \) -exec cp -f {} "$out/" \;
cat "$logs/python.log"
sed -n '/^| program/,$p' "$logs/times.log"
[ -f "$out/train_step_gpu.json" ] && cat "$out/train_step_gpu.json"
exit $failed
