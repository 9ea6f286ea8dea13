#!/usr/bin/env bash
# One command for a machine with a GPU: build with CUDA, test with CUDA demanded, measure, look for faults.
#
#   bash benchmarks/gpu.sh [part ...]     parts: build test kernels graphs networks batch sanitize compile, all by default
#   bash benchmarks/gpu.sh --rehearse     kernels, networks and batch on the CPU, tiny, no files: does everything run?
#
# Run it in an environment that has a CUDA build of torch, pip and nvcc. Wheels of whatever else is missing there may lie
# in a folder wheelhouse/ (pip download --no-deps -d wheelhouse diffusers 'importlib_metadata<9' jvp_flash_attention
# cupy-cuda13x, or the one of the CUDA there: without CuPy its test fails, and says so).
# A part that fails does not stop the others; the last lines say which did. Results go to benchmarks/results, the output
# to gpu.log there. What passes or fails belongs in docs/developers/gpu-status.md.
#
# LATENTJAC_RESULTS names a folder for three files, kept up to date all the while: gpu.log, results.tar.gz, and the wheel
# that was built, which in wheelhouse/ spares the next machine the build. LATENTJAC_SECONDS is the time for everything:
# what runs then is ended, what comes later is left out. Where a command may take ten minutes, in the order of their
# worth: `build test`, `build networks`, `build kernels graphs batch`, `build sanitize`, `build compile`; `build` does nothing
# where the module is installed and fits the sources.
set -uo pipefail
cd "$(dirname "$0")/.."
device=cuda quick=() parts=(build test kernels graphs networks batch sanitize compile)
if [ "${1:-}" = --rehearse ]; then
  device=cpu quick=(--quick) parts=(kernels networks batch)
elif [ $# -gt 0 ]; then
  parts=("$@")
fi
export PYTHONUNBUFFERED=1
deadline=${LATENTJAC_SECONDS:-86400}
results=benchmarks/results
failures=()

# Runs a command for as long as there is time, says when it began, and remembers it if it fails.
try() {
  printf '\n==> [%4ds] %s\n' "$SECONDS" "$*"
  if [ "$SECONDS" -ge "$deadline" ]; then
    failures+=("left out: $*")
    return 1
  fi
  local status=0
  timeout -k 5 $((deadline - SECONDS)) "$@" || status=$?
  [ "$status" -eq 0 ] || failures+=("exit status $status: $*")
  keep
  return "$status"
}

# An archive of what was measured so far, since whoever runs this may end it at any time.
keep() {
  [ -n "${LATENTJAC_RESULTS:-}" ] && compgen -G "$results/*_cuda.json" >/dev/null || return 0
  (cd "$results" && tar -czf - -- *_cuda.json) >"$LATENTJAC_RESULTS/results.part" &&
    mv "$LATENTJAC_RESULTS/results.part" "$LATENTJAC_RESULTS/results.tar.gz"
}

bench() { try python3 "benchmarks/bench_$1.py" --device "$device" "${@:2}" ${quick[@]+"${quick[@]}"}; }

built() {
  python3 -c 'from latentjac.kernels import build_info as i; assert i().cuda_built and i().sources_match' 2>/dev/null
}

part_build() {
  try nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  try nvcc --version
  if compgen -G 'wheelhouse/*.whl' >/dev/null; then
    try python3 -m pip install -q --no-index --no-deps wheelhouse/*.whl
  fi
  try python3 -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU"; print("torch", torch.__version__)'
  built || build_wheel
  try python3 -c 'from latentjac import kernels; print(kernels.build_info()); assert kernels.available("cuda")'
  try python3 -c 'from latentjac import kernels as k; b = [r for r in k.self_test("cuda") if not r.passed]; assert not b, b'
}

build_wheel() {
  # What the build needs is here already or comes from an index; --no-deps: never replace the torch that is here.
  local isolation=() wheels
  wheels=$(mktemp -d)
  if python3 -c 'import setuptools, pybind11, cmake, ninja' 2>/dev/null; then isolation=(--no-build-isolation); fi
  try env LATENTJAC_CUDA=on LATENTJAC_PTXAS_VERBOSE=ON MAX_JOBS="$(nproc)" \
    python3 -m pip wheel -v --no-deps ${isolation[@]+"${isolation[@]}"} -w "$wheels" . || return
  try python3 -m pip install -q --no-index --no-deps --force-reinstall "$wheels"/latentjac-*.whl
  [ -z "${LATENTJAC_RESULTS:-}" ] || cp "$wheels"/latentjac-*.whl "$LATENTJAC_RESULTS"/
}

part_test() {
  local workers=()
  # Half of the time is tracing, on the host.
  if python3 -c 'import xdist' 2>/dev/null; then workers=(-n "$(( $(nproc) < 12 ? $(nproc) : 12 ))"); fi
  try env LATENTJAC_REQUIRE_CUDA=1 LATENTJAC_KERNELS=native python3 -m pytest -q -m cuda --durations=10 \
    ${workers[@]+"${workers[@]}"} tests
}

part_kernels() {
  bench norm
  bench gated
  bench rows
  for dtype in bfloat16 float32 float16; do
    [ "$device $dtype" = "cpu float32" ] || [ "$device" = cuda ] || continue  # the CPU has no 16-bit kernels
    bench attention --dtype "$dtype"
  done
  [ "$device" = cpu ] || bench attention --tf32
}

part_graphs() {
  for network in unet faces; do try python3 benchmarks/bench_graphs.py --model "$network"; done
}

# What the targets are about comes first.
part_networks() {
  bench forwards
  for network in sd15 ddpm256 faces; do
    if [ "$device" = cuda ]; then
      bench networks --network "$network" --precision bf16 --no-peers --paper-seconds 20
      bench networks --network "$network" --precision tf32 --no-peers --paper-seconds 20
    fi
    bench networks --network "$network" --paper-seconds 20
  done
}

# What several photos at once gain.
part_batch() { bench batch sizes; }

# Faults that results do not show. Without torch's cache of memory every array is an allocation of its own, whose end is
# known; only our kernels are looked at.
part_sanitize() {
  local tool only
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  [ -n "$tool" ] || { echo "compute-sanitizer is not here: not run" && return; }
  # The option has had two names.
  only=$("$tool" --help 2>&1 | grep -q -- --kernel-name && echo --kernel-name || echo --kernel-regex)
  for check in memcheck racecheck initcheck; do
    try env PYTORCH_NO_CUDA_MEMORY_CACHING=1 LATENTJAC_KERNELS=native "$tool" --tool "$check" --error-exitcode 9 \
      "$only" kns=latentjac python3 -c \
      'from latentjac import kernels as k; b = [r for r in k.self_test("cuda") if not r.passed]; assert not b, b'
  done
  try env PYTORCH_NO_CUDA_MEMORY_CACHING=1 LATENTJAC_REQUIRE_CUDA=1 LATENTJAC_KERNELS=native "$tool" --tool memcheck \
    --error-exitcode 9 "$only" kns=latentjac python3 -m pytest -q -x -m cuda tests/kernels
}

# Compiling the peers takes minutes.
part_compile() { bench networks --network sd15 --compile --no-bases; }

mkdir -p "$results" ${LATENTJAC_RESULTS:+"$LATENTJAC_RESULTS"}
log=$([ "$device" = cuda ] && echo "$results/gpu.log" || echo /dev/null)
{
  for part in "${parts[@]}"; do "part_$part"; done
  printf '\n==> [%4ds] %d failed\n' "$SECONDS" "${#failures[@]}"
  for failure in ${failures[@]+"${failures[@]}"}; do echo "    $failure"; done
  [ ${#failures[@]} -eq 0 ]
} 2>&1 | tee "$log" ${LATENTJAC_RESULTS:+"$LATENTJAC_RESULTS/gpu.log"}
exit "${PIPESTATUS[0]}"
