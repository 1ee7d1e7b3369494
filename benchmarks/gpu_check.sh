#!/usr/bin/env bash
# What needs a GPU, in under ten minutes: builds for the GPU at hand, runs `pytest -m cuda`, the operators' kernels
# (not Triton's) under compute-sanitizer, and the benchmarks of operators and losses on CUDA beside the peers that are
# installed.
#
# benchmarks/gpu_check.sh [--dry-run] [FOLDER]   (FOLDER: where logs and JSON rows go; default gpu_check)
#
# Needs Python with torch for CUDA, nvcc, CMake, ninja, pybind11, scikit-build-core, pytest with pytest-benchmark and
# hypothesis, what pyproject.toml lists, and compute-sanitizer; pytest-xdist is used where it is installed. Nothing is
# fetched. FACECORE_WHEELS: a folder of wheels to install first, without their dependencies, for what the machine lacks.
# FACECORE_COMMIT: the commit to write into the rows outside a checkout. PYTHON: the interpreter (default python3).
# --dry-run: on a machine without a GPU: builds, collects and checks, prints what it cannot run.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
budget=570 # seconds for everything
dry=''
if [ "${1:-}" = --dry-run ]; then
  dry=1
  shift
fi
mkdir -p "${1:-gpu_check}"
out=$(cd "${1:-gpu_check}" && pwd)
python=${PYTHON:-python3}
work=$(mktemp -d "${TMPDIR:-/tmp}/facecore-gpu.XXXXXX")
trap finish EXIT
times=()
failed=()
sanitizers=(memcheck racecheck initcheck synccheck)
exec 3>&1 # where a dry run prints commands, wherever their output would go
export CUBLAS_WORKSPACE_CONFIG=:4096:8 # torch's deterministic mode asks for it
export PATH=$PATH:/usr/local/cuda/bin:/usr/local/cuda/compute-sanitizer

# step NAME COMMAND...: runs it, keeps its time, and goes on when it fails: one visit should tell everything.
step() {
  local name=$1 start=$SECONDS verdict=ok
  printf '\n=== %s\n' "$name"
  shift
  # a shell of its own, in which `set -e` holds: it would not inside a condition
  set +e
  (
    set -e
    "$@"
  )
  local status=$?
  set -e
  if [ "$status" -ne 0 ]; then
    verdict=FAILED
    failed+=("$name")
  fi
  times+=("$(printf '%5d s  %-6s  %s' "$((SECONDS - start))" "$verdict" "$name")")
}

# needed NAME COMMAND...: a step that the others build on.
needed() {
  step "$@"
  [ "${#failed[@]}" -eq 0 ] || exit 1
}

finish() {
  local status=$?
  trap - EXIT
  rm -rf "$work"
  printf '\n=== summary (logs and rows: %s)\n' "$out"
  [ "${#times[@]}" -eq 0 ] || printf '%s\n' "${times[@]}"
  if [ "${#failed[@]}" -gt 0 ]; then
    printf '=== FAILED after %d s:%s\n' "$SECONDS" "$(printf ' [%s]' "${failed[@]}")"
    exit 1
  fi
  if [ "$status" -ne 0 ]; then
    printf '=== FAILED (exit status %d, after %d s)\n' "$status" "$SECONDS"
    exit "$status"
  fi
  printf '=== all passed in %d s%s\n' "$SECONDS" "${dry:+ (dry run: nothing ran on a GPU)}"
}

# Prints a command instead of running it in a dry run.
on_gpu() {
  if [ -n "$dry" ]; then
    printf 'dry run:%s\n' "$(printf ' %q' "$@")" >&3
  else
    "$@"
  fi
}

show_machine() {
  on_gpu nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  on_gpu command -v compute-sanitizer
  command -v nvcc cmake ninja
  DRY=$dry "$python" -P - <<'PYTHON'
import importlib.util, os, sys

needs = "torch numpy scipy trimesh PIL safetensors tyro yaml tqdm tensorboard pybind11 scikit_build_core pytest"
needs = [*needs.split(), "pytest_benchmark", "hypothesis"]
missing = [name for name in needs if importlib.util.find_spec(name) is None]
if missing:
    sys.exit(f"missing Python packages: {', '.join(missing)}; put their wheels into the folder FACECORE_WHEELS")
import torch

print(f"Python {sys.version.split()[0]}, torch {torch.__version__}, CUDA {torch.version.cuda}")
if not torch.cuda.is_available() and not os.environ["DRY"]:
    sys.exit("torch sees no GPU; without one: benchmarks/gpu_check.sh --dry-run")
for index in range(torch.cuda.device_count()):
    print(f"GPU {index}: {torch.cuda.get_device_properties(index)}")
PYTHON
}

install_wheels() {
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --target "$work/site" "$FACECORE_WHEELS"/*.whl
}

build() {
  local arch=90
  if [ -z "$dry" ]; then
    arch=$("$python" -P -c 'import torch; print("%d%d" % torch.cuda.get_device_capability())')
  fi
  FACECORE_CUDA=ON FACECORE_CUDA_ARCHS=$arch "$python" -m pip install --no-index --no-deps --no-build-isolation \
    --no-compile --upgrade --target "$work/site" --config-settings=build-dir="$work/build" . >"$out/build.log" 2>&1 ||
    { tail -40 "$out/build.log" && return 1; }
  (cd "$work" && "$python" -P -c '
from facecore import _C
assert _C.built_with_cuda, "built without CUDA kernels"
print("built for compute capability", "'"$arch"'", "; devices:", _C.cuda_device_count())')
}

# Without a GPU every test skips; with one, none may skip for want of it. The test that watches the device's memory
# wants to be alone.
run_tests() {
  local parallel=()
  if [ -z "$dry" ] && "$python" -P -c 'import xdist' 2>/dev/null; then
    parallel=(-n 6 --dist loadfile)
  fi
  : >"$out/tests.log"
  test_with "${parallel[@]}" -k 'not all_memory'
  test_with -k all_memory
  if [ -z "$dry" ] && grep -q 'no CUDA device' "$out/tests.log"; then
    echo 'tests skipped although there is a GPU'
    return 1
  fi
}

test_with() {
  timeout 300 "$python" -P -m pytest -q -m 'cuda and not slow' -p no:cacheprovider --durations=5 "$@" python_tests 2>&1 |
    tee -a "$out/tests.log" | grep -v '^SKIPPED'
}

# Every operator's kernels on small cases under one tool of compute-sanitizer. torch's caching allocator would hide an
# access beyond an allocation; other libraries' kernels are left out, except that initcheck must see what they write.
sanitize() {
  local tool=$1 options=(--error-exitcode 99 --kernel-name kns=facecore)
  if [ "$tool" = initcheck ]; then
    options=()
  fi
  PYTORCH_NO_CUDA_MEMORY_CACHING=1 on_gpu timeout 200 compute-sanitizer --tool "$tool" \
    "${options[@]}" "$python" -P python_tests/operator_cases.py cuda >"$out/$tool.log" 2>&1 || return 1
  [ -n "$dry" ] || grep -q '^done$' "$out/$tool.log" || return 1
  # initcheck: a report names the kernel in the lines below it
  ! grep -A3 'Uninitialized' "$out/$tool.log" | grep -q 'facecore'
}

# One fault for each tool: what reports nothing must be able to report something.
plant_faults() {
  cat >"$work/fault.cu" <<'CUDA'
#include <cstdio>
#include <cstdlib>
__global__ void facecore_beyond(int* data) { data[64 + threadIdx.x] = 1; }
__global__ void facecore_race(int* data) {
  __shared__ int shared[64];
  shared[threadIdx.x] = data[threadIdx.x] = threadIdx.x;
  data[threadIdx.x] = shared[(threadIdx.x + 33) % 64];
}
__global__ void facecore_unwritten(int* data) { data[threadIdx.x] += 1; }
__global__ void facecore_left_behind(int* data) {
  if (threadIdx.x < 48) __syncthreads();
  data[threadIdx.x] = 1;
}
int main(int, char** arguments) {
  int* data = nullptr;
  if (cudaMalloc(&data, 64 * sizeof(int)) != cudaSuccess) return 1;
  switch (atoi(arguments[1])) {
    case 0: facecore_beyond<<<1, 64>>>(data); break;
    case 1: facecore_race<<<1, 64>>>(data); break;
    case 2: facecore_unwritten<<<1, 64>>>(data); break;
    default: facecore_left_behind<<<1, 64>>>(data);
  }
  cudaDeviceSynchronize();
  return 0;
}
CUDA
  local number status
  nvcc -arch=native -lineinfo -o "$work/fault" "$work/fault.cu" 2>/dev/null || nvcc -o "$work/fault" "$work/fault.cu"
  for number in 0 1 2 3; do
    status=0
    on_gpu compute-sanitizer --tool "${sanitizers[$number]}" --error-exitcode 99 "$work/fault" "$number" \
      >"$out/fault_${sanitizers[$number]}.log" 2>&1 || status=$?
    printf '%s: exit status %d\n' "${sanitizers[$number]}" "$status"
    if [ -z "$dry" ] && [ "$status" -ne 99 ]; then
      echo "${sanitizers[$number]} did not report the planted fault"
      return 1
    fi
  done
}

# The tools at the same time: each spends most of its time on the host.
sanitize_all() {
  local tool pids=() status=0 index
  for tool in "${sanitizers[@]}"; do
    (set -e && sanitize "$tool") &
    pids+=($!)
  done
  for index in "${!sanitizers[@]}"; do
    tool=${sanitizers[$index]}
    if wait "${pids[$index]}"; then
      printf '%s: %s\n' "$tool" "${dry:+not run, }no report"
    else
      status=1
      printf '%s: REPORTS, see %s\n' "$tool" "$out/$tool.log"
      grep -m 20 -E '=========|Error' "$out/$tool.log" || tail -20 "$out/$tool.log"
    fi
  done
  return "$status"
}

# run_benchmarks EXPRESSION: in the time that is left. Rasterize first.
run_benchmarks() {
  local op files=() left=$((budget - SECONDS)) device=cuda log
  for op in rasterize interpolate vertex_normals sh_shading surface_shading uv_unwrap uv_sample chebyshev_conv sparse_matmul \
    reconstruction smoothness symmetry shape flattening skin landmark; do
    files+=("benchmarks/bench_$op.py")
  done
  log="$out/benchmarks_${1// /_}.log"
  if [ -n "$dry" ]; then
    "$python" -P -m pytest -q -p no:cacheprovider --collect-only -k "$1" "${files[@]}" | tail -3
    return
  fi
  if [ "$left" -lt 10 ]; then
    echo 'no time left'
    return 1
  fi
  "$python" -P -m pytest -q -p no:cacheprovider -k "$1" --device "$device" --rows "$out" --seconds "$left" \
    --benchmark-max-time 0.2 --benchmark-min-rounds 10 --benchmark-columns median "${files[@]}" >"$log" 2>&1 ||
    { tail -40 "$log" && return 1; }
  sed -n '/ rows /,$p' "$log"
}

if [ -n "${FACECORE_WHEELS:-}" ]; then
  needed 'carried wheels' install_wheels
fi
export PYTHONPATH=$work/site${PYTHONPATH:+:$PYTHONPATH} PYTHONSAFEPATH=1
needed 'machine' show_machine
needed 'build' build
step 'pytest -m cuda' run_tests
step 'sanitizers report planted faults' plant_faults
step 'operators under the sanitizers' sanitize_all
step 'benchmarks' run_benchmarks 'not compile'
step 'benchmarks of torch.compile' run_benchmarks 'compile'
