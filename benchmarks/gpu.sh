#!/usr/bin/env bash
# One command for a machine with a GPU: build with CUDA, test with CUDA demanded, look for faults, measure.
#
#   bash benchmarks/gpu.sh [part ...]        parts: build test sanitize kernels networks, all of them by default
#   bash benchmarks/gpu.sh --rehearse        kernels and networks on the CPU, tiny, no files: does everything run?
#
# Run it in an environment that has a CUDA build of torch, pip and nvcc. Wheels of whatever else is missing there may lie
# in a folder wheelhouse/ (pip download --no-deps -d wheelhouse diffusers 'importlib_metadata<9' jvp_flash_attention).
# A part that fails does not stop the others; the last lines say which did. Results go to benchmarks/results, the output
# to gpu.log there; LATENTJAC_RESULTS names a folder to copy both to. What passes or fails belongs in docs/gpu-status.md.
set -uo pipefail
cd "$(dirname "$0")/.."
device=cuda quick=() parts=(build test sanitize kernels networks)
if [ "${1:-}" = --rehearse ]; then
  device=cpu quick=(--quick) parts=(kernels networks)
elif [ $# -gt 0 ]; then
  parts=("$@")
fi
export PYTHONUNBUFFERED=1
failures=()

# Runs a command, says how long it took, and remembers it if it fails.
try() {
  printf '\n==> [%4ds] %s\n' "$SECONDS" "$*"
  "$@" || failures+=("$*")
}

bench() { try python3 "benchmarks/bench_$1.py" --device "$device" "${@:2}" ${quick[@]+"${quick[@]}"}; }

part_build() {
  try nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  try nvcc --version
  if compgen -G 'wheelhouse/*.whl' >/dev/null; then try python3 -m pip install --no-index --no-deps wheelhouse/*.whl; fi
  try python3 -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU"; print("torch", torch.__version__)'
  # What the build needs is here already or comes from an index; --no-deps: never replace the torch that is here.
  isolation=()
  if python3 -c 'import setuptools, pybind11, cmake, ninja' 2>/dev/null; then isolation=(--no-build-isolation); fi
  try env LATENTJAC_CUDA=on LATENTJAC_PTXAS_VERBOSE=ON \
    python3 -m pip install --no-deps --force-reinstall ${isolation[@]+"${isolation[@]}"} .
  try python3 -c 'from latentjac import kernels; print(kernels.build_info()); assert kernels.available("cuda")'
  try python3 -c 'from latentjac import kernels as k; b = [r for r in k.self_test("cuda") if not r.passed]; assert not b, b'
}

part_test() {
  try env LATENTJAC_REQUIRE_CUDA=1 LATENTJAC_KERNELS=native python3 -m pytest -q -m cuda tests
  try env LATENTJAC_REQUIRE_CUDA=1 LATENTJAC_KERNELS=native python3 -m pytest -q tests/kernels
}

# Faults that results do not show. Without torch's cache of memory every array is an allocation of its own, whose end is
# known; only our kernels are looked at.
part_sanitize() {
  local tool
  tool=$(command -v compute-sanitizer || ls /usr/local/cuda/bin/compute-sanitizer 2>/dev/null)
  [ -n "$tool" ] || { echo "compute-sanitizer is not here: not run" && return; }
  for check in memcheck racecheck initcheck; do
    try env PYTORCH_NO_CUDA_MEMORY_CACHING=1 LATENTJAC_KERNELS=native "$tool" --tool "$check" --error-exitcode 9 \
      --kernel-regex kns=latentjac python3 -c \
      'from latentjac import kernels as k; b = [r for r in k.self_test("cuda") if not r.passed]; assert not b, b'
  done
  try env PYTORCH_NO_CUDA_MEMORY_CACHING=1 LATENTJAC_REQUIRE_CUDA=1 LATENTJAC_KERNELS=native "$tool" --tool memcheck \
    --error-exitcode 9 --kernel-regex kns=latentjac python3 -m pytest -q -x -m cuda tests/kernels
}

part_kernels() {
  bench norm
  bench gated
  bench rows
  for dtype in float32 bfloat16 float16; do
    [ "$device $dtype" = "cpu float32" ] || [ "$device" = cuda ] || continue  # the CPU has no 16-bit kernels
    bench attention --dtype "$dtype"
  done
  [ "$device" = cpu ] || bench attention --tf32
}

part_networks() {
  [ "$device" = cpu ] || for network in unet faces; do try python3 benchmarks/bench_graphs.py --model "$network"; done
  for network in faces sd15 ddpm256; do
    bench networks --network "$network"
    [ "$device" = cuda ] || continue
    bench networks --network "$network" --tf32 --no-peers
    bench networks --network "$network" --dtype bfloat16 --no-bases
  done
  # Compiling the peers takes minutes, so it comes last.
  [ "$device" = cpu ] || bench networks --network sd15 --compile --no-bases
}

results=benchmarks/results
mkdir -p "$results"
log=$([ "$device" = cuda ] && echo "$results/gpu.log" || echo /dev/null)
{
  for part in "${parts[@]}"; do "part_$part"; done
  printf '\n==> [%4ds] %d failed\n' "$SECONDS" "${#failures[@]}"
  for failure in ${failures[@]+"${failures[@]}"}; do echo "    $failure"; done
  [ ${#failures[@]} -eq 0 ]
} 2>&1 | tee "$log"
status=${PIPESTATUS[0]}
if [ -n "${LATENTJAC_RESULTS:-}" ]; then
  mkdir -p "$LATENTJAC_RESULTS" && cp "$log" "$results"/*_cuda.json "$LATENTJAC_RESULTS"/
fi
exit "$status"
