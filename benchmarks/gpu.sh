#!/usr/bin/env bash
# One command for a machine with a GPU: build with CUDA, test with CUDA demanded, measure, write results.
#
#   bash benchmarks/gpu.sh [results folder]
#
# Run it in an environment that has a CUDA build of torch, pip and nvcc. Whatever passes or fails here belongs in
# docs/gpu-status.md.
set -euo pipefail
cd "$(dirname "$0")/.."
results=${1:-benchmarks/results}
mkdir -p "$results"
log="$results/gpu.log"

{
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv
  nvcc --version | tail -2
  python -c 'import torch; assert torch.cuda.is_available(), "torch sees no GPU"; print("torch", torch.__version__)'

  # Build requirements come from pyproject.toml. --no-deps: never replace the torch that is here.
  LATENTJAC_CUDA=on LATENTJAC_PTXAS_VERBOSE=ON python -m pip install --no-deps --force-reinstall .
  python -c 'from latentjac import kernels; print(kernels.build_info()); assert kernels.available("cuda")'
  python -c 'from latentjac import kernels as k; b = [r for r in k.self_test("cuda") if not r.passed]; assert not b, b'

  LATENTJAC_REQUIRE_CUDA=1 LATENTJAC_KERNELS=native python -m pytest tests/kernels -q

  python benchmarks/bench_norm.py --device cuda
  python benchmarks/bench_gated.py --device cuda
  for dtype in float32 bfloat16 float16; do python benchmarks/bench_attention.py --device cuda --dtype $dtype; done
  [ "$results" -ef benchmarks/results ] || cp benchmarks/results/*_cuda.json "$results"/
} 2>&1 | tee "$log"
